//! Writes the program that the image's shell reads: exports, the working directory, the job's lines (runner-behaviour.md
//! §3.2, §3.3, §3.5).
//!
//! Pure. The text works in bash, dash and busybox alike, and has no limit of size: values are assigned, not inherited.

use std::collections::BTreeMap;

use super::context::Context;

/// The longest entry of a process's environment, with its end (runner-behaviour.md §3.5); with a longer one nothing starts.
const LONGEST_ENTRY: usize = 128 << 10;

/// What one program does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program<'a> {
    /// Exported, names in order.
    pub environment: &'a BTreeMap<String, String>,
    /// Where the lines run.
    pub directory: &'a str,
    /// A green line before the first.
    pub notice: Option<&'a str>,
    /// The lines: each an element of the job's list, which may hold line breaks.
    pub lines: &'a [String],
    /// Lines that hold line breaks are told whole, as folded sections whose names begin so (`FF_SCRIPT_SECTIONS`).
    pub sections: Option<&'a str>,
    /// How the shell runs them.
    pub options: ShellOptions,
}

/// How a job wants its shells to work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ShellOptions {
    /// The shell tells each command (`CI_DEBUG_TRACE`).
    pub xtrace: bool,
    /// Each line's exit status is looked at, whatever the shell thinks of it (`FF_ENABLE_BASH_EXIT_CODE_CHECK`).
    pub checked: bool,
    /// The lines are the end of a pipe, from which nothing comes (`FF_USE_LEGACY_BASH_EVAL`).
    pub piped: bool,
}

impl ShellOptions {
    /// Those of the job.
    pub(super) fn of(context: &Context) -> Self {
        let variables = &context.variables;
        ShellOptions {
            xtrace: variables.flag("CI_DEBUG_TRACE", false),
            checked: variables.flag("FF_ENABLE_BASH_EXIT_CODE_CHECK", false),
            piped: variables.flag("FF_USE_LEGACY_BASH_EVAL", false),
        }
    }
}

impl Program<'_> {
    /// The text for the shell's standard input.
    pub(super) fn text(&self) -> String {
        let mut head = String::from("trap 'exit 1' TERM\n");
        if self.options.xtrace {
            head.push_str("set -o xtrace\n");
        }
        // A shell that does not know the option ends: let it be another one.
        head.push_str("if (set -o pipefail) 2>/dev/null; then set -o pipefail; fi\nset -o errexit\nset +o noclobber\n");
        let body = quote(&self.body());
        match self.options.piped {
            false => format!("{head}(trap 'exit 1' TERM; eval {body}) </dev/null\nexit 0\n"),
            true => format!("{head}: | eval {body}\nexit 0\n"),
        }
    }

    /// Those variables that no shell can assign; they go into the process's environment, if it can hold them.
    pub(super) fn unassignable(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let fits = |key: &str, value: &str| key.len() + value.len() + 2 <= LONGEST_ENTRY;
        let odd = environment.iter().filter(|(key, _)| !is_identifier(key) && is_environment_name(key));
        let odd = odd.filter(|(key, value)| fits(key, value));
        odd.map(|(key, value)| (key.clone(), value.replace('\0', ""))).collect()
    }

    fn body(&self) -> String {
        let mut body = String::new();
        for (key, value) in self.environment.iter().filter(|(key, _)| is_identifier(key)) {
            body.push_str(&format!("export {key}={}\n", quote(value)));
        }
        body.push_str(&format!("cd {}\n", quote(self.directory)));
        if let Some(notice) = self.notice {
            body.push_str(&echo(notice));
        }
        body.push_str(&told_and_run(self.lines, self.sections, self.options.checked));
        body
    }
}

/// Whether a shell can assign a variable of this name.
pub(super) fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

/// Each of the job's lines behind the one that tells it.
fn told_and_run(lines: &[String], sections: Option<&str>, checked: bool) -> String {
    const CHECK: &str = "_runner_exit_code=$?; if [ $_runner_exit_code -ne 0 ]; then exit $_runner_exit_code; fi\n";
    let check = if checked { CHECK } else { "" };
    let lines = lines.iter().map(|line| line.trim()).enumerate();
    lines.map(|(number, line)| format!("{}{line}\n{check}", tell(number, line, sections))).collect()
}

/// The line that says what is run next (runner-behaviour.md §2.4).
fn tell(number: usize, line: &str, sections: Option<&str>) -> String {
    match (line.split_once('\n'), sections) {
        (None, _) if line.is_empty() => "printf '\\n'\n".into(),
        (None, _) => echo(&format!("$ {line}")),
        (Some((first, _)), None) => echo(&format!("$ {} # collapsed multi-line command", first.trim_end_matches('\r'))),
        (Some(_), Some(prefix)) => tell_in_section(&format!("{prefix}_{number}"), line),
    }
}

/// The section holds what is run, not what that writes: its first line shows, the rest is folded.
fn tell_in_section(name: &str, line: &str) -> String {
    let now = r#""$(date +%s)""#;
    let options = "[hide_duration=true,collapsed=true]";
    let told = quote(&format!("\x1b[32;1m$ {line}\x1b[0;m"));
    format!(
        "printf 'section_start:%s:section_{name}{options}\\r\\033[0K%s\\n' {now} {told}\n\
         printf 'section_end:%s:section_{name}\\r\\033[0K\\n' {now}\n"
    )
}

fn echo(text: &str) -> String {
    format!("printf '%s\\n' {}\n", quote(&format!("\x1b[32;1m{text}\x1b[0;m")))
}

/// One word for any shell. No shell can hold a NUL.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', r"'\''"))
}

fn is_environment_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(environment: &[(&str, &str)], lines: &[&str]) -> String {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let lines: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        Program {
            environment: &environment,
            directory: "/b/it's",
            notice: None,
            lines: &lines,
            sections: None,
            options: ShellOptions::default(),
        }
        .text()
    }

    #[test]
    fn a_program_has_gitlab_runners_shape() {
        insta::assert_snapshot!(text(&[("A", "1"), ("not one", "x")], &["  make\n", "if a\nthen b\nfi", ""]).replace('\x1b', "ESC"), @r"
        trap 'exit 1' TERM
        if (set -o pipefail) 2>/dev/null; then set -o pipefail; fi
        set -o errexit
        set +o noclobber
        (trap 'exit 1' TERM; eval 'export A='\''1'\''
        cd '\''/b/it'\''\'\'''\''s'\''
        printf '\''%s\n'\'' '\''ESC[32;1m$ makeESC[0;m'\''
        make
        printf '\''%s\n'\'' '\''ESC[32;1m$ if a # collapsed multi-line commandESC[0;m'\''
        if a
        then b
        fi
        printf '\''\n'\''

        ') </dev/null
        exit 0
        ");
    }

    #[test]
    fn names_that_no_shell_assigns_go_another_way() {
        let all = ["A", "_b1", "1A", "A-B", "a.b", "", "A=B"];
        let all: BTreeMap<String, String> = all.into_iter().map(|key| (key.to_owned(), "x\0y".to_owned())).collect();
        let mut with_a_long_one = all.clone();
        with_a_long_one.insert("too-long".into(), "x".repeat(LONGEST_ENTRY));
        let odd: Vec<String> = Program::unassignable(&with_a_long_one).into_keys().collect();
        assert_eq!(odd, ["1A", "A-B", "a.b"]);
    }

    #[test]
    fn values_cannot_leave_their_quotes() {
        let text = text(&[("A", "'; rm -rf /; '\0")], &[]);
        assert!(text.contains(r"export A='\'''\''\'\'''\''; rm -rf /; '\''\'\'''\'''\''"), "{text}");
    }

    /// Every shell of this machine that an image could have.
    fn shells() -> Vec<Vec<&'static str>> {
        let known = [vec!["bash"], vec!["dash"], vec!["sh"], vec!["busybox", "sh"]];
        let there: Vec<_> = known.into_iter().filter(|shell| run(shell, "exit 0").is_some()).collect();
        assert!(!there.is_empty());
        there
    }

    /// Runs `program` as `build` does; its code and output.
    fn run(shell: &[&str], program: &str) -> Option<(i32, String)> {
        use std::io::{Read, Write};
        use std::process::{Command, Stdio};
        let (mut output, writer) = std::io::pipe().unwrap();
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).stdin(Stdio::piped()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = command.spawn().ok()?;
        drop(command);
        let (mut stdin, program) = (child.stdin.take().unwrap(), program.to_owned());
        let feeder = std::thread::spawn(move || stdin.write_all(program.as_bytes()));
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        let _ = feeder.join().unwrap();
        Some((child.wait().unwrap().code().unwrap(), text))
    }

    /// Runs lines in the directory `/`, with one variable, and leaves out what tells of the commands.
    fn run_lines(shell: &[&str], value: &str, lines: &[&str]) -> (i32, String) {
        run_lines_with(ShellOptions::default(), shell, value, lines)
    }

    fn run_lines_with(options: ShellOptions, shell: &[&str], value: &str, lines: &[&str]) -> (i32, String) {
        let environment = BTreeMap::from([("VALUE".to_owned(), value.to_owned())]);
        let lines: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        let program =
            Program { environment: &environment, directory: "/", notice: None, lines: &lines, sections: None, options };
        let (code, text) = run(shell, &program.text()).unwrap();
        (code, text.lines().filter(|line| !line.starts_with("\x1b[32;1m$ ")).map(|line| format!("{line}\n")).collect())
    }

    #[test]
    fn all_lines_run_in_one_shell_and_the_first_failure_ends_it() {
        for shell in shells() {
            for (lines, code, output) in [
                (&["true"][..], 0, ""),
                (&["false", "echo no"], 1, ""),
                (&["(exit 42)", "echo no"], 42, ""),
                (&["exit 7", "echo no"], 7, ""),
                (&["exit 0", "false"], 0, ""),
                (&["cd /usr", "pwd", "A=1", "export B=2", "echo $A$B"], 0, "/usr\n12\n"),
                (&["f() {", "echo in f", "}", "f"], 0, "in f\n"),
                (&["if false; then", "echo no", "else", "echo yes", "fi"], 0, "yes\n"),
                (&["cat <<END\na  b\nEND", "echo after"], 0, "a  b\nafter\n"),
                (&["cat", "read line || echo empty"], 0, "empty\n"),
                (&["false || echo rescued", "! true || true"], 0, "rescued\n"),
                (&["set -C", "echo 1 >/dev/null"], 0, ""),
                (&["", "  ", "echo x  "], 0, "\n\nx\n"),
                (&["unset NOPE", "echo a$NOPE'b'\"c\"\\\\"], 0, "abc\\\n"),
                (&["trap 'echo bye' EXIT", "exit 5"], 5, "bye\n"),
            ] {
                let ran = run_lines(&shell, "", lines);
                assert_eq!((ran.0, ran.1.as_str()), (code, output), "{shell:?}: {lines:?}");
            }
        }
    }

    #[test]
    fn lines_with_line_breaks_are_sections_where_the_job_wants_it() {
        let lines = ["echo one".to_owned(), "for i in 1 2\ndo echo \"\\$i\"\ndone".to_owned()];
        let (environment, directory) = (BTreeMap::new(), "/");
        let program = Program {
            environment: &environment,
            directory,
            notice: None,
            lines: &lines,
            sections: Some("script_step"),
            options: ShellOptions::default(),
        };
        let times = regex::Regex::new("_(start|end):[0-9]+:").unwrap();
        for shell in shells() {
            let (code, text) = run(&shell, &program.text()).unwrap();
            let time: String = text.split(':').nth(1).unwrap().to_owned();
            assert!(time.parse::<u64>().is_ok(), "{text}");
            let expected = "\x1b[32;1m$ echo one\x1b[0;m\none\n\
                section_start:T:section_script_step_1[hide_duration=true,collapsed=true]\r\x1b[0K\
                \x1b[32;1m$ for i in 1 2\ndo echo \"\\$i\"\ndone\x1b[0;m\n\
                section_end:T:section_script_step_1\r\x1b[0K\n$i\n$i\n";
            assert_eq!((code, times.replace_all(&text, "_$1:T:").as_ref()), (0, expected), "{shell:?}");
        }
    }

    #[test]
    fn a_check_behind_each_line_sees_what_errexit_does_not() {
        let checked = ShellOptions { checked: true, ..ShellOptions::default() };
        for shell in shells() {
            for (lines, unchecked, code) in [
                (&["false && true", "echo on"][..], 0, 1),
                (&["! true", "echo on"], 0, 1),
                (&["(exit 42) || (exit 7)", "echo on"], 7, 7),
                (&["true", "false || true", "echo on"], 0, 0),
            ] {
                assert_eq!(run_lines(&shell, "", lines).0, unchecked, "{shell:?}: {lines:?}");
                let ran = run_lines_with(checked, &shell, "", lines);
                assert_eq!((ran.0, ran.1.contains("on\n")), (code, code == 0), "{shell:?}: {lines:?}");
            }
        }
    }

    #[test]
    fn in_a_pipe_lines_run_as_they_do_without() {
        let piped = ShellOptions { piped: true, ..ShellOptions::default() };
        for shell in shells() {
            for (lines, code, output) in [
                (&["A=1", "cat", "echo $A"][..], 0, "1\n"),
                (&["exit 0", "echo no"], 0, ""),
                (&["exit 5", "echo no"], 5, ""),
            ] {
                assert_eq!(run_lines_with(piped, &shell, "", lines), (code, output.into()), "{shell:?}: {lines:?}");
            }
            // Bash forgets the code of a command that failed there: it is why the other way is the default.
            assert_ne!(run_lines_with(piped, &shell, "", &["(exit 5)", "echo no"]).0, 0, "{shell:?}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_script_fails_it() {
        for shell in shells() {
            for lines in [&["if true"][..], &["echo 'open"], &["no-such-command-anywhere", "echo no"]] {
                let (code, output) = run_lines(&shell, "", lines);
                assert!(code != 0 && !output.lines().any(|line| line == "no"), "{shell:?}: {lines:?}: {code} {output}");
            }
        }
    }

    #[test]
    fn a_pipe_fails_with_its_first_part_where_the_shell_can() {
        for shell in shells() {
            let (can, _) = run(&shell, "(set -o pipefail) 2>/dev/null\n").unwrap();
            let (code, _) = run_lines(&shell, "", &["false | true"]);
            assert_eq!(code != 0, can == 0, "{shell:?}");
        }
    }

    #[test]
    fn values_arrive_byte_for_byte() {
        let long = "x".repeat(300_000);
        for shell in shells() {
            for value in ["", "two  words ", "'\"`$(echo no)$VALUE\\n\\", "a\nb\n\nc", "\t\r!*?[a]~#é", "-n", &long] {
                let (code, output) = run_lines(&shell, value, &["printf '<%s>' \"$VALUE\""]);
                let expected: String = format!("<{value}>").split('\n').map(|line| format!("{line}\n")).collect();
                // `lines` takes a CR in front of a line feed, and nothing else.
                assert_eq!((code, output.replace('\r', "")), (0, expected.replace('\r', "")), "{shell:?}");
            }
        }
    }
}
