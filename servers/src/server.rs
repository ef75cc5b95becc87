//! A server of any kind: what all kinds share.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::{env, fs, io};

use tempfile::TempDir;

use crate::port::Port;
use crate::process::Process;
use crate::software::Software;
use crate::user::User;
use crate::wait::LIMIT;
use crate::{Error, port, wait};

/// What kinds of servers differ in.
pub trait Kind: Debug + Sized + 'static {
    /// How the server's program is found and installed.
    const SOFTWARE: Software;

    /// The beginning of a folder's name.
    const FOLDER: &'static str;

    /// The users to run as if this process is root, the preferred one first. Empty if root will do.
    const USERS: &'static [&'static str] = &[];

    /// Makes the files of an empty server, before its first start. The settings are a test's.
    ///
    /// # Errors
    /// If they cannot be made.
    fn init(_setup: &Setup, _settings: &[(&str, &str)]) -> Result<(), Error> {
        Ok(())
    }

    /// The text of the configuration file. `settings` are a test's, and win.
    fn config(setup: &Setup, settings: &[(&str, &str)]) -> String;

    /// What starts the server.
    fn command(setup: &Setup) -> Command;

    /// Checks that the server answers, and that it is the process with this id: on a port lost to
    /// another server, that one would answer while ours is about to give up.
    ///
    /// # Errors
    /// If it is not ready yet, or another process answers.
    fn answers(setup: &Setup, process_id: u32) -> io::Result<()>;

    /// Checks that whatever listens on the port is a server of this kind.
    ///
    /// # Errors
    /// If there is no answer in time, or an unexpected one.
    fn ping(port: u16) -> io::Result<()>;

    /// The URL that clients take.
    fn url(port: u16) -> String;
}

/// A kind of which tests can share one server.
pub trait Shareable: Kind {
    /// The environment variable with the URL of a running server, as under `cargo xtask test`.
    const URL_VARIABLE: &'static str;

    /// The server that the tests of this process share.
    fn shared() -> &'static Mutex<Option<Server<Self>>>;
}

/// What a server needs to start, again and again.
#[derive(Debug)]
pub struct Setup {
    program: PathBuf,
    user: User,
    port: Port,
    folder: TempDir,
}

impl Setup {
    fn new<K: Kind>() -> Result<Self, Error> {
        let failed = |what: &str| format!("cannot {what} for {}", K::SOFTWARE.name);
        let setup = Self {
            program: K::SOFTWARE.find()?,
            user: User::ordinary(K::USERS)?,
            port: Port::reserve().map_err(Error::io(failed("reserve a port")))?,
            folder: tempfile::Builder::new()
                .prefix(K::FOLDER)
                .tempdir()
                .map_err(Error::io(failed("make a folder")))?,
        };
        setup.user.owns(setup.folder())?;
        Ok(setup)
    }

    /// The program that serves.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The folder where the server keeps its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder().join("server.conf")
    }

    /// Writes a file in the folder, for the server to read and to write.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let file = self.folder().join(name);
        fs::write(&file, text).map_err(Error::io(format!("cannot write {}", file.display())))?;
        self.user.owns(&file)?;
        Ok(file)
    }

    /// Runs a program that makes files for the server, as the server's user.
    pub(crate) fn run(&self, name: &'static str, mut command: Command) -> Result<(), Error> {
        self.user.runs(&mut command);
        Process::run(name, command, self.folder(), LIMIT)
    }

    fn configure<K: Kind>(&self, settings: &[(&str, &str)]) -> Result<(), Error> {
        self.write("server.conf", &K::config(self, settings))
            .map(drop)
    }

    fn launch<K: Kind>(&self) -> Result<Process, Error> {
        let mut command = K::command(self);
        self.user.runs(&mut command);
        let mut process = Process::start(K::SOFTWARE.name, command, self.folder())?;
        let id = process.id();
        wait::until_ready(&mut process, LIMIT, || K::answers(self, id))?;
        Ok(process)
    }
}

/// A server of its own, in a folder of its own. Dropping it kills it and removes the folder.
#[derive(Debug)]
pub struct Server<K: Kind> {
    // Dropped in this order: the process is gone before its folder is removed.
    process: Option<Process>,
    setup: Setup,
    kind: PhantomData<K>,
}

impl<K: Kind> Server<K> {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// If there is no program to start, or the server does not answer in time.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&[])
    }

    /// Starts a server with further settings, named as in the server's configuration file.
    ///
    /// # Errors
    /// As [`start`](Self::start). If the server refuses a setting, the error's log says so.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self, Error> {
        let mut setup = Setup::new::<K>()?;
        K::init(&setup, settings)?;
        setup.configure::<K>(settings)?;
        let process = wait::retry(|is_again| {
            if is_again {
                setup.port = Port::reserve().map_err(Error::io("cannot reserve another port"))?;
                setup.configure::<K>(settings)?;
            }
            setup.launch::<K>()
        })?;
        Ok(Self {
            process: Some(process),
            setup,
            kind: PhantomData,
        })
    }

    /// The URL that clients take.
    pub fn url(&self) -> String {
        K::url(self.port())
    }

    /// The port, which stays the same after a restart.
    pub fn port(&self) -> u16 {
        self.setup.port()
    }

    /// The id of the server's first process, unless it was killed.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The folder where the server keeps its files.
    pub fn folder(&self) -> &Path {
        self.setup.folder()
    }

    /// Checks that the server answers, and waits up to five seconds for that.
    ///
    /// # Errors
    /// If there is no answer in time, or an unexpected one.
    pub fn ping(&self) -> io::Result<()> {
        K::ping(self.port())
    }

    /// Kills the server and everything that it has started (SIGKILL): it cannot save anything.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Kills the server if it runs, and starts it again on the same port with the same folder.
    ///
    /// What it had saved is there again.
    ///
    /// # Errors
    /// As [`start`](Self::start), and if another program keeps the port.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.kill();
        port::wait_until_free(self.port(), LIMIT);
        self.process = Some(wait::retry(|_| self.setup.launch::<K>())?);
        Ok(())
    }

    /// Pauses the server and everything that it has started (SIGSTOP): connections stay open, and
    /// nothing is answered.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.running()?.pause()
    }

    /// Lets a paused server go on (SIGCONT).
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.running()?.resume()
    }

    fn running(&mut self) -> Result<&mut Process, Error> {
        self.process.as_mut().ok_or_else(|| {
            let killed = io::Error::other("it was killed; call restart() first");
            Error::io(format!("cannot signal {}", K::SOFTWARE.name))(killed)
        })
    }
}

impl<K: Shareable> Server<K> {
    /// The URL of the server that tests share: the one that
    /// [`URL_VARIABLE`](Shareable::URL_VARIABLE) names, or one that is started for this process at
    /// the first call and ends with it. Whoever shares it uses keys or tables of their own, and
    /// neither empties, restarts nor pauses it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn shared_url() -> Result<String, Error> {
        if let Ok(url) = env::var(K::URL_VARIABLE) {
            return Ok(url);
        }
        let mut shared = K::shared().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = &*shared {
            return Ok(server.url());
        }
        // Being static, it is never dropped: its watchdog ends it.
        Ok(shared.insert(Self::start()?).url())
    }
}
