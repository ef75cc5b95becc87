//! The key that encrypts the session cookie.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use actix_session::config::secret_key;
use actix_web::cookie::Key;

use super::ConfigError;

/// Reads the value of `APP_SECRET_KEY`.
pub(super) fn parse(text: &str) -> Result<Key, ConfigError> {
    secret_key::parse(text).map_err(ConfigError::Secret)
}

/// The key in `folder`. If there is none, it is made and kept, so that a restart logs nobody out.
pub(super) fn development_key(folder: &Path) -> Result<Key, ConfigError> {
    let path = folder.join("dev-secret.key");
    if !path.exists() {
        make(&path).map_err(|source| failure(&path, source))?;
        log::warn!(
            "APP_SECRET_KEY is not set: made a key for development in {}. \
             Production needs a key of its own.",
            path.display()
        );
    }
    secret_key::from_file(&path).map_err(ConfigError::DevelopmentKey)
}

fn make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        create_private_dir(folder)?;
    }
    let mut file = private_file(path)?;
    for byte in Key::generate().master() {
        write!(file, "{byte:02x}")?;
    }
    file.sync_all()
}

fn private_file(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes a folder that only its owner may enter, if it does not exist yet.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn failure(path: &Path, source: io::Error) -> ConfigError {
    ConfigError::NoDevelopmentKey {
        path: PathBuf::from(path),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_openssl_prints_and_the_same_in_hexadecimal_are_one_key() {
        let base64 = format!("{}\n{}==\n", "q6ur".repeat(16), "q6ur".repeat(5) + "qw");
        let hexadecimal = "ab".repeat(64);
        let key = Key::from(&[0xab; 64]);
        for text in [base64, hexadecimal] {
            assert!(parse(&text).unwrap() == key, "{text}");
        }
    }

    #[test]
    fn short_and_broken_keys_are_refused_with_advice() {
        for (text, says) in [
            ("ab".repeat(32), "32 bytes"),
            ("hunter2 !".to_owned(), "must be base64"),
        ] {
            let error = parse(&text).err().unwrap().to_string();
            for part in ["APP_SECRET_KEY", says, "openssl rand -base64 64"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn the_development_key_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let first = development_key(&data).unwrap();
        assert!(first == development_key(&data).unwrap());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&data), 0o700);
            assert_eq!(mode(&data.join("dev-secret.key")), 0o600);
        }
    }

    #[test]
    fn a_development_key_that_cannot_be_made_names_its_file_and_the_remedies() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = development_key(&file).err().unwrap().to_string();
        for part in ["dev-secret.key", "DATABASE_FILE", "APP_SECRET_KEY"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_damaged_development_key_says_to_delete_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("dev-secret.key"), "").unwrap();
        let error = development_key(folder.path()).err().unwrap().to_string();
        assert!(
            error.contains("dev-secret.key") && error.contains("delete it"),
            "{error}"
        );
    }
}
