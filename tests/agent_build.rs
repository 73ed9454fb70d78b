//! `agent build` runs what a helper sends it, as GitLab Runner's shells would.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// Nothing here takes so long.
const LONG: Duration = Duration::from_secs(60);

/// A helper of a few lines: it knows the frames by their bytes only.
struct Helper {
    dir: TempDir,
    build: Child,
    socket: Framed<UnixStream, LengthDelimitedCodec>,
    shell: String,
}

/// What a script did.
#[derive(Debug)]
struct Ran {
    code: i64,
    killed: bool,
    output: String,
}

impl Helper {
    async fn start() -> Helper {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("builds/g/p")).unwrap();
        let listener = UnixListener::bind(dir.path().join("helper.sock")).unwrap();
        let build = Command::new(env!("CARGO_BIN_EXE_agent"))
            .arg("build")
            .env("MAYFLY_BUILDS_DIR", dir.path().join("builds"))
            .env("MAYFLY_AGENT_DIR", dir.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (stream, _) = tokio::time::timeout(LONG, listener.accept()).await.expect("build connects").unwrap();
        let mut socket = LengthDelimitedCodec::builder().max_frame_length(1 << 20).new_framed(stream);
        let hello = socket.next().await.unwrap().unwrap();
        assert_eq!(hello[0], b'h');
        let hello: Value = serde_json::from_slice(&hello[1..]).unwrap();
        assert_eq!(hello["version"], env!("CARGO_PKG_VERSION"));
        let shell = hello["shell"].as_str().unwrap().to_owned();
        Helper { dir, build, socket, shell }
    }

    fn builds(&self) -> PathBuf {
        self.dir.path().join("builds")
    }

    fn request(&self, program: &str) -> Value {
        json!({"program": program, "environment": {}, "files": {}, "temp_dir": self.builds().join("g/p.tmp")})
    }

    async fn send(&mut self, kind: u8, content: &[u8]) {
        let mut frame = BytesMut::from(&[kind][..]);
        frame.extend_from_slice(content);
        self.socket.send(frame.freeze()).await.unwrap();
    }

    async fn begin(&mut self, request: &Value) {
        let text = request.to_string().into_bytes();
        for piece in text.chunks(100_000) {
            self.send(b'p', piece).await;
        }
        self.send(b'r', b"").await;
    }

    async fn frame(&mut self) -> Bytes {
        let frame = tokio::time::timeout(LONG, self.socket.next()).await.expect("build says something in time");
        frame.expect("build is there").unwrap().freeze()
    }

    /// Waits for the end of the script.
    async fn end(&mut self) -> Ran {
        let mut output = Vec::new();
        loop {
            let frame = self.frame().await;
            match frame[0] {
                b'o' => output.extend_from_slice(&frame[1..]),
                b'e' => {
                    let end: Value = serde_json::from_slice(&frame[1..]).unwrap();
                    let output = String::from_utf8(output).unwrap();
                    return Ran { code: end["code"].as_i64().unwrap(), killed: end["killed"] == true, output };
                }
                other => panic!("{}: {}", char::from(other), String::from_utf8_lossy(&frame)),
            }
        }
    }

    /// Waits until the script has written `text`.
    async fn until(&mut self, text: &str) {
        let mut output = String::new();
        while !output.contains(text) {
            let frame = self.frame().await;
            assert_eq!(frame[0], b'o', "{output}");
            output.push_str(std::str::from_utf8(&frame[1..]).unwrap());
        }
    }

    async fn run(&mut self, program: &str) -> Ran {
        let request = self.request(program);
        self.begin(&request).await;
        self.end().await
    }

    async fn bye(mut self) -> Option<i32> {
        self.send(b'b', b"").await;
        tokio::time::timeout(LONG, self.build.wait()).await.expect("build ends").unwrap().code()
    }
}

fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn until_gone(pid: &str) {
    let gone = async {
        while is_alive(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, gone).await.expect("the process goes");
}

#[tokio::test]
async fn exit_codes_come_through_as_they_are() {
    let mut helper = Helper::start().await;
    for (program, code) in [("exit 0\n", 0), ("exit 3\n", 3), ("exit 255\n", 255), ("kill -KILL $$\n", 137), ("", 0)] {
        let ran = helper.run(program).await;
        assert_eq!((ran.code, ran.killed), (code, false), "{program}");
    }
    assert_eq!(helper.bye().await, Some(0));
}

#[tokio::test]
async fn output_and_errors_keep_their_order() {
    let mut helper = Helper::start().await;
    let ran = helper.run("for i in 1 2 3; do echo out $i; echo err $i >&2; done\n").await;
    assert_eq!(ran.output, "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n");
    let ran = helper.run("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done\n").await;
    assert_eq!(ran.output.lines().count(), 20_000);
    assert!(ran.output.ends_with("line 19999\n"));
}

#[tokio::test]
async fn the_environment_has_what_no_shell_can_assign_and_nothing_of_ours() {
    let mut helper = Helper::start().await;
    let mut request = helper.request("cat /proc/$$/environ | tr '\\0' '\\n'; exit 0\n");
    request["environment"] = json!({"odd-name": "kept"});
    helper.begin(&request).await;
    let ran = helper.end().await;
    assert!(ran.output.contains("odd-name=kept\n"), "{}", ran.output);
    assert!(!ran.output.contains("MAYFLY_"), "{}", ran.output);
}

#[tokio::test]
async fn file_variables_are_there_and_a_program_may_be_large() {
    let mut helper = Helper::start().await;
    let temp = helper.builds().join("g/p.tmp");
    let mut request = helper.request(&format!("cat {0}/CERT; : '{1}'\n", temp.display(), "x".repeat(3_000_000)));
    request["files"] = json!({"CERT": "pem"});
    helper.begin(&request).await;
    assert_eq!(helper.end().await.output, "pem");
    assert!(temp.join("gitlab_runner_env").exists());
}

#[tokio::test]
async fn a_child_in_the_background_does_not_hang_the_job_and_lives_on() {
    let mut helper = Helper::start().await;
    let ran = helper.run("while :; do sleep 0.01; echo more; done & echo $! \n").await;
    let pid = ran.output.lines().next().unwrap().to_owned();
    assert_eq!(ran.code, 0);
    assert!(is_alive(&pid), "it serves what comes later");
    assert_eq!(helper.run(&format!("kill -0 {pid} && echo alive\n")).await.output, "alive\n");
    drop(helper.socket);
    until_gone(&pid).await;
    assert_ne!(helper.build.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_script_that_is_killed_leaves_nothing_behind() {
    let mut helper = Helper::start().await;
    // One that heeds SIGTERM, and one in a session of its own that nobody in the group can hear.
    let program = "trap 'echo ending; exit 1' TERM\nsetsid sh -c 'trap : TERM; echo $$; while :; do sleep 0.05; done' &\n\
                   while :; do sleep 0.05; done\n";
    let request = helper.request(program);
    helper.begin(&request).await;
    let first = helper.frame().await;
    let pid = std::str::from_utf8(&first[1..]).unwrap().trim().to_owned();
    assert!(is_alive(&pid));

    helper.send(b'k', b"").await;
    let ran = helper.end().await;

    assert!(ran.killed && ran.output.contains("ending"), "{ran:?}");
    until_gone(&pid).await;
    assert_eq!(helper.run("echo next\n").await.output, "next\n");
}

#[tokio::test]
async fn a_script_that_does_not_heed_sigterm_is_killed_after_its_grace() {
    let mut helper = Helper::start().await;
    let request = helper.request("trap '' TERM\necho begun\nwhile :; do sleep 0.05; done\n");
    helper.begin(&request).await;
    helper.until("begun").await;
    helper.send(b'k', b"").await;
    let ran = helper.end().await;
    assert!(ran.killed);
    assert_eq!(ran.code, 137);
}

#[tokio::test]
async fn sigterm_does_not_end_build() {
    let mut helper = Helper::start().await;
    let pid = rustix::process::Pid::from_raw(helper.build.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(helper.run("echo still here\n").await.output, "still here\n");
    assert_eq!(helper.bye().await, Some(0));
}

#[tokio::test]
async fn what_cannot_be_said_ends_build() {
    for (kind, content) in [(b'x', &b""[..]), (b'r', b"no script")] {
        let mut helper = Helper::start().await;
        helper.send(b'p', content).await;
        helper.send(kind, b"").await;
        let end = tokio::time::timeout(LONG, helper.build.wait()).await.expect("build ends").unwrap();
        assert_ne!(end.code(), Some(0));
    }
}

#[tokio::test]
async fn the_shell_is_one_of_the_known_ones() {
    let helper = Helper::start().await;
    assert!(helper.shell.ends_with("/bash") || helper.shell.ends_with("/sh"), "{}", helper.shell);
}
