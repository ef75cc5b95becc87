//! Stands in for TLS where that is not built.

use redis::ConnectionInfo;

#[derive(Clone, Default)]
pub(super) struct Files {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Files {
    pub(super) const fn is_set(&self) -> bool {
        self.ca.is_some() || self.client.is_some()
    }
}

pub(super) fn with_files(info: ConnectionInfo, files: &Files) -> anyhow::Result<ConnectionInfo> {
    anyhow::ensure!(
        !files.is_set(),
        "certificates for Redis need the feature redis-session-rustls or redis-session-native-tls"
    );
    Ok(info)
}
