//! Finding a server's program.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::Error;

/// Where servers are if `PATH` does not name their folder: on a desktop, it often leaves `sbin`
/// out.
const USUAL_FOLDERS: [&str; 5] = [
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
];

/// A kind of server, as a program that can be found and installed.
#[derive(Debug)]
pub struct Software {
    /// The name for people.
    pub name: &'static str,
    /// The names of programs that serve, the preferred one first.
    pub programs: &'static [&'static str],
    /// The environment variable that names one particular program.
    pub variable: &'static str,
    /// Debian packages with one of the programs, the preferred one first.
    pub debian_packages: &'static [&'static str],
    /// How to install it on other systems.
    pub elsewhere: &'static str,
}

impl Software {
    /// The program to run: the one that [`variable`](Self::variable) names, or the first found.
    ///
    /// # Errors
    /// [`Error::Missing`] if no program is found; it says what to install.
    pub fn find(&self) -> Result<PathBuf, Error> {
        match env::var_os(self.variable).filter(|value| !value.is_empty()) {
            Some(named) => self.check_named(PathBuf::from(named)),
            None => self.search(&folders()).ok_or_else(|| self.missing()),
        }
    }

    /// Whoever names a program wants that one: falling back would silently test another.
    fn check_named(&self, named: PathBuf) -> Result<PathBuf, Error> {
        if is_program(&named) {
            return Ok(named);
        }
        let hint = format!(
            "{} names {}, which is not a program that can be run; correct or unset the variable",
            self.variable,
            named.display()
        );
        Err(Error::Missing {
            name: self.name,
            hint,
        })
    }

    fn search(&self, folders: &[PathBuf]) -> Option<PathBuf> {
        self.programs
            .iter()
            .flat_map(|program| folders.iter().map(move |folder| folder.join(program)))
            .find(|candidate| is_program(candidate))
    }

    fn missing(&self) -> Error {
        let hint = format!(
            "install it (Debian, Ubuntu: apt-get install {}; {}), or name its program in {}",
            self.debian_packages.first().copied().unwrap_or_default(),
            self.elsewhere,
            self.variable
        );
        Error::Missing {
            name: self.name,
            hint,
        }
    }
}

fn folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(USUAL_FOLDERS.iter().map(PathBuf::from))
        .chain(versioned(Path::new("/usr/lib/postgresql")))
        .collect()
}

/// On Debian, each version of PostgreSQL has a folder of its own outside `PATH`. The newest comes
/// first.
fn versioned(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

pub(crate) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOFTWARE: Software = Software {
        name: "Example",
        programs: &["first", "second"],
        variable: "EXAMPLE_BIN_THAT_NOBODY_SETS",
        debian_packages: &["example-server"],
        elsewhere: "elsewhere: compile it",
    };

    fn put_program(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_preferred_program_wins_wherever_it_is() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [one.path().to_owned(), two.path().to_owned()];
        let second = put_program(one.path(), "second");
        assert_eq!(SOFTWARE.search(&folders), Some(second));
        let first = put_program(two.path(), "first");
        assert_eq!(SOFTWARE.search(&folders), Some(first));
    }

    #[test]
    fn the_newest_of_several_versions_comes_first() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["9", "15", "common"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        let expected = ["15", "9"].map(|version| parent.path().join(version).join("bin"));
        assert_eq!(versioned(parent.path()), expected);
    }

    #[test]
    fn a_file_that_cannot_be_run_is_not_a_program() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("first");
        fs::write(&file, "").unwrap();
        assert_eq!(SOFTWARE.search(&[folder.path().to_owned()]), None);
        assert!(matches!(
            SOFTWARE.check_named(file),
            Err(Error::Missing { .. })
        ));
    }

    #[test]
    fn the_error_for_a_missing_program_says_what_to_install() {
        let message = SOFTWARE.find().unwrap_err().to_string();
        for part in [
            "apt-get install example-server",
            "compile it",
            SOFTWARE.variable,
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
}
