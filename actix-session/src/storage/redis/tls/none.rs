//! A build without TLS.

use redis::ConnectionInfo;

use super::address::Files;

/// A build without TLS accepts no certificates.
pub(super) fn with_files(info: ConnectionInfo, files: &Files) -> anyhow::Result<ConnectionInfo> {
    anyhow::ensure!(
        !files.is_set(),
        "certificates for Redis need the feature redis-session-rustls-ring or redis-session-native-tls"
    );
    Ok(info)
}
