//! Mistakes: each is refused with its place, and with the word that was probably meant.

use super::support::*;

#[test]
fn a_typo_is_refused_with_its_line_and_the_nearest_keyword() {
    for (text, expected) in [
        ("a:\n  scirpt: x\n", "job `a`, line 2: `scirpt` is no keyword of a job: did you mean `script`?"),
        (
            "stagse: [a]\na: {script: x}\n",
            "line 1: `stagse` is no keyword, and as a job it should be a map: did you mean `stages`?",
        ),
        (
            "a:\n  script: x\n  artifacts:\n    path: [x]\n",
            "job `a`, line 4: `artifacts` knows no `path`: did you mean `paths`?",
        ),
        (
            "a:\n  script: x\n  cache:\n    polcy: pull\n",
            "job `a`, line 4: `cache` knows no `polcy`: did you mean `policy`?",
        ),
        ("a:\n  script: x\n  retry:\n    mx: 1\n", "job `a`, line 4: `retry` knows no `mx`: did you mean `max`?"),
        ("a:\n  script: x\n  when: onsuccess\n", "job `a`, line 3: `when` should be one of"),
        ("a:\n  script: x\n  rules:\n    - iff: $X\n", "job `a`, line 4: `rules` knows no `iff`: did you mean `if`?"),
        ("default:\n  imgae: x\na: {script: x}\n", "line 2: `default` knows no `imgae`: did you mean `image`?"),
        ("a: {script: x}\nb:\n  script: x\n  needs: [c, aa]\n", "job `b`, line 4: `needs` names `c`, which is no job"),
        ("a: {script: x, stage: biuld}\n", "did you mean `build`?"),
        ("a: {script: x, retry: {when: [script_failur]}}\n", "did you mean `script_failure`?"),
    ] {
        let said = refusal(text);
        assert!(said.contains(expected), "{text}\nsaid: {said}\nexpected: {expected}");
    }
}

#[test]
fn mistakes_are_refused_with_a_sentence() {
    for (text, expected) in [
        ("t:\n  stage: nope\n  script: x\n", "the stages are `.pre`, `build`, `test`, `deploy`, `.post`"),
        ("t:\n  image: a\n", "job `t`, line 1: the job has no `script`"),
        ("", "the file is empty"),
        ("t:\n  script:\n    - echo: hi\n", "`script`"),
        ("t: {script: x, dependencies: [u]}\nu: {script: x, stage: deploy}", "which is in a later stage"),
        ("t: {script: x}\nt: {script: y}", "twice"),
        ("t: {script: x, rules: [{when: on_success}], only: [main]}", "keep one"),
        ("t: {script: x, rules: [{if: '$A = 1'}]}", "`=` is no part of an expression"),
        ("t: {script: x, needs: [t]}", "`needs` goes in a circle"),
        ("a: {script: x, needs: [b]}\nb: {script: x, needs: [a]}", "`needs` goes in a circle"),
        ("a: {script: x, needs: [b]}\nb: {script: x, stage: deploy}", "which is in a later stage"),
        ("a: {script: x, needs: [b]}\nb: {script: x, only: [tags]}", "which is not in this pipeline"),
        ("a: {script: x, only: [tags]}", "no job runs for this event"),
        ("a: {script: x, stage: .pre}", "in `.pre` and `.post` only"),
        ("a: {trigger: other/project}", "trigger jobs only"),
        ("a: {script: x, when: delayed}", "`a`"),
        ("a: {script: x, parallel: 201}", "200"),
        ("a: {script: x, retry: 3}", "2"),
        ("a: {run: [{name: x, script: y}]}", "`run` cannot be done here"),
        ("t 1/2: {script: x}\nt: {script: x, parallel: 2}", "both make a job called `t 1/2`"),
        ("a: {script: x, parallel: 60}\nb: {script: x, needs: [a]}", "50 jobs at most"),
        (".a: {script: x}", "no visible job"),
        ("include: {remote: 'https://x/y.yml'}\na: {script: x}", "`include:remote` brings a file from elsewhere"),
        ("include: 'https://x/y.yml'\na: {script: x}", "`include:remote`"),
        ("include: [{project: a/b, file: c.yml}]\na: {script: x}", "`include:project`"),
        ("include: [{template: Auto.yml}]\na: {script: x}", "`include:template`"),
        ("include: [{component: x/y@1}]\na: {script: x}", "`include:component`"),
        ("include: ci/none.yml\na: {script: x}", "which is not in the repository"),
        ("include: ../../etc/passwd.yml\na: {script: x}", "which is not in the repository"),
        ("t:\n  script:\n    - !reference [a, script]\n", "finds no `a`"),
        ("t:\n  script:\n    - !secret x\n", "!secret"),
    ] {
        let said = refusal(text);
        assert!(said.contains(expected), "{text}\nsaid: {said}\nexpected: {expected}");
    }
}

#[test]
fn hostile_text_is_refused_within_bounds() {
    assert!(!refusal(&"[".repeat(100_000)).is_empty());
    assert!(refusal(&"- ".repeat(100)).contains("nested deeper"));
    assert!(refusal(&" ".repeat(2_000_000)).contains("larger"));
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, of) in "bcdefgh".chars().zip("abcdefg".chars()) {
        bomb.push_str(&format!("{name}: &{name} [*{of},*{of},*{of},*{of},*{of},*{of},*{of},*{of},*{of}]\n"));
    }
    assert!(refusal(&bomb).contains("aliases expand"));
    let references = (1..9).fold(".j0: {script: [x,x,x,x,x,x,x,x,x,x]}\n".to_owned(), |text, level| {
        let one = format!("!reference [.j{}, script]", level - 1);
        format!("{text}.j{level}: {{script: [{}]}}\n", [one.as_str(); 10].join(", "))
    });
    assert!(refusal(&format!("{references}a: {{script: [!reference [.j8, script]]}}\n")).contains("expand to more"));
    let large = "x".repeat(500_000);
    let jobs = "parallel: {matrix: [{A: [1,2,3,4,5,6,7,8,9,0], B: [1,2,3,4,5,6,7,8,9,0]}]}";
    let many: String = (0..6).map(|n| format!("j{n}: {{script: x, {jobs}}}\n")).collect();
    assert!(refusal(&format!("variables: {{LARGE: {large}}}\n{many}")).contains("bytes of text"));
    let blocks = "$[[ inputs.a ]] ".repeat(20_000);
    let filled = format!("spec: {{inputs: {{a: {{default: {large}}}}}}}\n---\na: {{script: '{blocks}'}}\n");
    assert!(refusal(&filled).contains("inputs expand"));
    let circle = [(".gitlab-ci.yml", "include: .gitlab-ci.yml\na: {script: x}\n")];
    assert!(with(request(&circle), &[]).expect_err("a circle").to_string().contains("150"));
    let matrix = "a: {script: x, parallel: {matrix: [{A: [1,2,3,4,5,6,7,8,9,0], B: [1,2,3,4,5,6,7,8,9,0], C: [1,2,3,4,5,6,7,8,9,0]}]}}";
    assert!(refusal(matrix).contains("more than 200"));
}
