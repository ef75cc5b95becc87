//! The key that encrypts the session cookie.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use actix_web::cookie::Key;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::ConfigError;

const MINIMUM: usize = 64;

/// Whoever pastes a key has it with or without `=` at the end.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads base64 or hexadecimal, with the line breaks that `openssl` puts in.
pub(super) fn parse(text: &str) -> Result<Key, ConfigError> {
    let text: String = text.split_whitespace().collect();
    let bytes = decode(&text).ok_or(ConfigError::SecretFormat)?;
    if bytes.len() < MINIMUM {
        return Err(ConfigError::SecretShort(bytes.len()));
    }
    Ok(Key::from(&bytes))
}

/// A text of nothing but hexadecimal digits is taken for that, though it is base64 as well: so
/// the shorter of two readings is measured.
fn decode(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex {
        let standard: String = text.replace('-', "+").replace('_', "/");
        return BASE64.decode(standard).ok();
    }
    let pairs = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).ok())
        .collect()
}

/// The key kept in `folder`, made when there is none, so that a restart logs nobody out.
pub(super) fn development_key(folder: &Path) -> Result<Key, ConfigError> {
    let path = folder.join("dev-secret.key");
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text).map_err(|error| unusable(&path, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = make(&path).map_err(|source| failure(&path, source))?;
            log::warn!(
                "APP_SECRET_KEY is not set: made a key for development in {}. \
                 Production needs a key of its own.",
                path.display()
            );
            Ok(key)
        }
        Err(source) => Err(failure(&path, source)),
    }
}

fn make(path: &Path) -> io::Result<Key> {
    let key = Key::generate();
    if let Some(folder) = path.parent() {
        create_private_dir(folder)?;
    }
    let mut file = private_file(path)?;
    writeln!(file, "{}", BASE64.encode(key.master()))?;
    file.sync_all()?;
    Ok(key)
}

fn private_file(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A folder that only its owner may enter, where it does not exist yet.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn failure(path: &Path, source: io::Error) -> ConfigError {
    ConfigError::DevelopmentKey {
        path: PathBuf::from(path),
        source,
    }
}

fn unusable(path: &Path, error: &ConfigError) -> ConfigError {
    log::debug!("{}: {error}", path.display());
    failure(
        path,
        io::Error::new(io::ErrorKind::InvalidData, "it holds no key; delete it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_and_hexadecimal_give_the_same_key() {
        let bytes: Vec<u8> = (0..64).map(|byte| byte * 3 + 1).collect();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut base64 = BASE64.encode(&bytes);
        base64.insert(64, '\n');
        let urlsafe = base64.replace('+', "-").replace('/', "_").replace('=', "");
        let key = Key::from(&bytes);
        for text in [hex, base64, urlsafe] {
            assert!(parse(&text).unwrap() == key, "{text}");
        }
    }

    #[test]
    fn short_and_broken_keys_are_refused_with_advice() {
        for (text, says) in [
            ("ab".repeat(32), "32 bytes"),
            ("hunter2 !".to_owned(), "neither"),
        ] {
            let error = parse(&text).err().unwrap().to_string();
            assert!(
                error.contains(says) && error.contains("openssl rand -base64 64"),
                "{error}"
            );
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
    fn a_damaged_development_key_says_to_delete_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("dev-secret.key"), "").unwrap();
        let error = development_key(folder.path()).err().unwrap().to_string();
        assert!(error.contains("delete it"), "{error}");
    }
}
