//! An ordinary user, for servers that refuse to run as root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;

use crate::Error;

/// The user that a server runs as: another one if this process is root, else the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User(Option<Ids>);

#[derive(Clone, Copy, Debug)]
struct Ids {
    user: u32,
    group: u32,
}

impl User {
    /// The first of these users that this machine has, if this process is root and any are named.
    pub(crate) fn ordinary(names: &[&str]) -> Result<Self, Error> {
        if names.is_empty() || !geteuid().is_root() {
            return Ok(Self(None));
        }
        let found = names.iter().find_map(|name| ids(name));
        found.map(|ids| Self(Some(ids))).ok_or_else(|| {
            let cause = std::io::Error::other(format!("there is no {}", names.join(" and no ")));
            Error::io("cannot find a user for a server that refuses root")(cause)
        })
    }

    /// Makes a command run as this user.
    pub(crate) fn runs(self, command: &mut Command) {
        if let Some(ids) = self.0 {
            command.uid(ids.user).gid(ids.group);
        }
    }

    /// Makes this user the owner of a file or folder.
    pub(crate) fn owns(self, path: &Path) -> Result<(), Error> {
        let Some(ids) = self.0 else { return Ok(()) };
        chown(path, Some(ids.user), Some(ids.group)).map_err(Error::io(format!(
            "cannot give {} to a server's user",
            path.display()
        )))
    }
}

fn ids(name: &str) -> Option<Ids> {
    let ask = |option: &str| {
        let output = Command::new("id").args([option, name]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.trim().parse().ok()
    };
    Some(Ids {
        user: ask("-u")?,
        group: ask("-g")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_id_zero_and_an_unknown_user_has_no_id() {
        assert_eq!(ids("root").map(|ids| (ids.user, ids.group)), Some((0, 0)));
        assert!(ids("a user that no machine has").is_none());
    }
}
