//! The real binary as a process.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

use super::{Failed, MOMENTS};

/// How a server is started. The default is a node alone on free ports.
#[derive(Clone, Default)]
pub struct Options {
    /// Config keys, as `rustmq serve --set` has them.
    pub set: Vec<String>,
    /// Further flags.
    pub flags: Vec<String>,
}

impl Options {
    pub fn set(mut self, pair: impl Into<String>) -> Self {
        self.set.push(pair.into());
        self
    }

    pub fn tls(self) -> Self {
        self.set("network.tls=on")
    }
}

/// What `rustmq serve` says when it is ready.
#[derive(Deserialize)]
struct Line {
    kafka: String,
    http: String,
    #[serde(default)]
    ca: String,
}

/// A running rustmq.
pub struct Server {
    child: Child,
    line: Line,
    options: Options,
    dir: TempDir,
}

impl Server {
    pub fn start(options: Options) -> Result<Self, Failed> {
        let dir = TempDir::with_prefix("rustmq-sdk-")?;
        let (child, line) = launch(&options, dir.path(), "0", "0")?;
        Ok(Self { child, line, options, dir })
    }

    /// [`Server::start`] with Kafka, and QUIC, on a port.
    pub fn start_on(options: Options, port: u16) -> Result<Self, Failed> {
        let dir = TempDir::with_prefix("rustmq-sdk-")?;
        let (child, line) = launch(&options, dir.path(), &port.to_string(), "0")?;
        Ok(Self { child, line, options, dir })
    }

    /// `host:port` of Kafka over TCP and, on the same number, QUIC.
    pub fn addr(&self) -> &str {
        &self.line.kafka
    }

    /// Where the admin API is.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.line.http)
    }

    /// Authority that clients of TLS and QUIC trust.
    pub fn ca_file(&self) -> PathBuf {
        PathBuf::from(&self.line.ca)
    }

    /// Where the server's own certificates are: ca.pem, server.pem, server.key.
    pub fn certs(&self) -> PathBuf {
        self.data_dir().join("certs")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A directory that lives as long as the server, for files of the test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops the process in its tracks (SIGSTOP): it answers nothing, and refuses nothing.
    pub fn freeze(&self) -> Result<(), Failed> {
        self.signal("STOP")?;
        // Its threads stop one by one, a moment later.
        let began = Instant::now();
        while !stopped(self.child.id())? {
            if began.elapsed() > MOMENTS {
                return Err("the server does not stop".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Undoes [`Server::freeze`].
    pub fn thaw(&self) -> Result<(), Failed> {
        self.signal("CONT")
    }

    /// Has the server read its files again (SIGHUP).
    pub fn reload(&self) -> Result<(), Failed> {
        self.signal("HUP")
    }

    /// Ends the process at once, as a crash does (SIGKILL).
    pub fn kill(&mut self) {
        // Both fail only where it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends the process kindly.
    pub fn stop(&mut self) -> Result<(), Failed> {
        self.signal("TERM")?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again after [`Server::kill`] or [`Server::stop`], on the same ports, with what it had.
    pub fn again(&mut self) -> Result<(), Failed> {
        let (child, line) = launch(&self.options, self.dir.path(), port(&self.line.kafka), port(&self.line.http))?;
        self.child = child;
        self.line = line;
        Ok(())
    }

    fn signal(&self, name: &str) -> Result<(), Failed> {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status()?;
        if sent.success() { Ok(()) } else { Err(format!("SIG{name} could not be sent to the server").into()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether all threads of a process have been stopped, where the system tells.
fn stopped(pid: u32) -> Result<bool, Failed> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Ok(true) };
    for thread in threads {
        let stat = std::fs::read_to_string(thread?.path().join("stat")).unwrap_or_default(); // it may have ended
        // The state is what follows the name, which is in brackets.
        if !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn port(addr: &str) -> &str {
    addr.rsplit(':').next().unwrap_or_default()
}

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("SERVER_BIN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bin/rustmq"), PathBuf::from)
}

fn launch(options: &Options, dir: &Path, kafka: &str, http: &str) -> Result<(Child, Line), Failed> {
    let binary = binary();
    let mut command = Command::new(&binary);
    command.arg("serve").arg("--data-dir").arg(dir.join("data"));
    let ports = [format!("network.kafka_port={kafka}"), format!("network.http_port={http}")];
    for pair in ports.iter().chain(&options.set) {
        command.arg("--set").arg(pair);
    }
    command.args(&options.flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|e| format!("start {}: {e}; make build, or name a server in SERVER_BIN", binary.display()))?;
    let mut first = String::new();
    BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut first)?;
    let mut errors = child.stderr.take().ok_or("no stderr")?;
    match serde_json::from_str(&first) {
        Ok(line) => {
            // Whatever it logs is read, so that it is not held up.
            std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
            Ok((child, line))
        }
        Err(e) => {
            let _ = child.kill();
            child.wait()?;
            let mut said = String::new();
            errors.read_to_string(&mut said)?;
            Err(format!("the server has not started ({e}): {first}{said}").into())
        }
    }
}
