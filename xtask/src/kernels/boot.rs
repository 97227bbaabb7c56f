//! Running one program inside a booted kernel.
//!
//! The kernel is a process, User Mode Linux, and its root is this machine's, read-only. It is
//! the first process of a pid namespace that ends with this one: whatever happens, nothing of it
//! stays behind.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::build;
use crate::{process::command, tools, workspace};

/// The first process in there.
const INIT: &str = include_str!("init.sh");

/// How much memory a kernel has. It is a sparse file: what is not used is not there.
const MEMORY: &str = "mem=2G";

/// How much of the kernel's console is told where something is wrong.
const TAIL: usize = 40;

/// What is to be run, and where.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// The folder that it is run in.
    pub(super) folder: PathBuf,
    /// What it finds in its environment, beside PATH.
    pub(super) environment: Vec<(String, String)>,
    /// When it is taken for stuck.
    pub(super) limit: Duration,
    /// What its lines begin with here: several kernels may run at once.
    pub(super) prefix: String,
}

impl Job {
    /// The job as a script. One file instead of the kernel's command line, which has room for
    /// less, and no way to quote.
    fn script(&self) -> String {
        let mut script = String::new();
        for (name, value) in &self.environment {
            script += &format!("export {name}={}\n", quote(value));
        }
        script += &format!("cd {} || exit 126\nexec", quote(&self.folder.to_string_lossy()));
        for word in &self.command {
            script += " ";
            script += &quote(word);
        }
        script + "\n"
    }
}

/// How a job ended that did end.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Its exit status, as a shell tells it.
    pub(super) status: u8,
    /// What it printed, both streams. It has gone to stdout as well.
    pub(super) output: String,
}

/// Boots `kernel`, the program, and runs the job in it.
///
/// A kernel that panics, does not end in time, or ends without telling the job's status is an
/// error, which has the end of the kernel's console.
pub(super) fn run(kernel: &Path, job: &Job) -> Result<Outcome> {
    let folder = RunFolder::make()?;
    folder.write("init", INIT)?;
    folder.write("job", &job.script())?;
    let mut child = start(kernel, &folder)?;
    let lines = lines(child.stdout.take().context("the kernel has no output")?);
    let result = listen(&lines, job);
    // Where it ended by itself, this finds nothing to end.
    let _ = child.kill();
    child.wait().context("cannot wait for the kernel")?;
    let status = fs::read_to_string(folder.path.join("status"));
    match (result, status) {
        (Ok(output), Ok(status)) => {
            let status = status.trim();
            let status = status.parse().with_context(|| format!("{status:?} is no status"))?;
            Ok(Outcome { status, output })
        }
        (Ok(_), Err(_)) => bail!("the kernel ended before the job did\n{}", folder.console()),
        (Err(error), _) => bail!("{error:#}\n{}", folder.console()),
    }
}

/// Starts the kernel: `setpriv` so that it ends with us, `unshare` so that all of its processes
/// end with it. Between them is a shell: the first process of a pid namespace cannot abort, which
/// is how this kernel ends after a panic.
fn start(kernel: &Path, folder: &RunFolder) -> Result<Child> {
    let console = folder.path.join("console");
    let console =
        fs::File::create(&console).with_context(|| format!("cannot make {}", console.display()))?;
    let visible =
        [workspace::root(), workspace::metadata()?.target_directory.into(), tools::folder()?];
    let visible: Vec<_> = visible.iter().map(|path| path.to_string_lossy()).collect();
    let run = folder.path.to_string_lossy();
    for path in visible.iter().map(AsRef::as_ref).chain([run.as_ref()]) {
        let plain = |c: char| !c.is_whitespace() && !matches!(c, ':' | ',' | '"');
        ensure!(path.chars().all(plain), "a kernel cannot be told of the folder {path:?}");
    }
    command("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL"])
        .args(["sh", "-c", "\"$@\"; exit $?", "kernel"])
        .arg(kernel)
        .args([MEMORY, "quiet", "loglevel=4"])
        .args(["rootfstype=hostfs", "rootflags=/", "ro"])
        .args(["con=null", "con0=null,fd:2", "con1=null,fd:1"])
        .arg(format!("init={run}/init"))
        .arg(format!("SHUNT_RUN={run}"))
        .arg(format!("SHUNT_VISIBLE={}", visible.join(":")))
        .stdout(Stdio::piped())
        .stderr(console)
        .spawn()
        .context("cannot start the kernel")
}

/// The lines that the kernel's terminal prints, as they come.
fn lines(stdout: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Passes the lines on until the kernel is gone, and returns them all, without the prefix.
fn listen(lines: &Receiver<Vec<u8>>, job: &Job) -> Result<String> {
    let deadline = Instant::now() + job.limit;
    let mut output = String::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line);
                // That nobody listens is no reason to stop.
                let _ = writeln!(std::io::stdout().lock(), "{}{line}", job.prefix);
                output += &line;
                output.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(output),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the job has not ended within {} s", job.limit.as_secs())
            }
        }
    }
}

/// A word as the shell reads it back.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What a kernel and its starter tell each other, removed when dropped.
struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    fn make() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = build::folder()?;
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            // What one left that was killed. That it cannot be removed harms nobody.
            if starter(&entry.file_name().to_string_lossy()).is_some_and(is_gone) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let path = folder.join(format!("run-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", path.display()))
    }

    /// The end of what the kernel said.
    fn console(&self) -> String {
        let text = fs::read(self.path.join("console")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        format!("the kernel's console ended with:\n{tail}")
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The process that made a folder of this name.
fn starter(name: &str) -> Option<u32> {
    name.strip_prefix("run-")?.split('-').next()?.parse().ok()
}

fn is_gone(process: u32) -> bool {
    !Path::new("/proc").join(process.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            command: vec!["/bin/it's".into(), "a b".into(), "$(rm x)".into()],
            folder: "/some where".into(),
            environment: vec![("REQUIRE_ALL".into(), "1".into())],
            limit: Duration::ZERO,
            prefix: String::new(),
        }
    }

    #[test]
    fn a_job_keeps_its_words() {
        assert_eq!(
            job().script(),
            "export REQUIRE_ALL='1'\ncd '/some where' || exit 126\n\
             exec '/bin/it'\\''s' 'a b' '$(rm x)'\n"
        );
    }

    #[test]
    fn only_folders_of_runs_whose_starter_is_gone_are_left_over() {
        assert_eq!(starter("run-17-0"), Some(17));
        assert_eq!(starter("6.1-plain-a7bc96a23116-6.1.192-2"), None);
        assert!(!is_gone(std::process::id()) && is_gone(u32::MAX));
    }

    #[test]
    fn output_that_does_not_end_is_an_error() {
        let (_sender, lines) = mpsc::channel();
        let error = listen(&lines, &job()).unwrap_err();
        assert!(error.to_string().contains("not ended"), "{error}");
    }
}
