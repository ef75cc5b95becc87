//! A Redis that speaks TLS.

use std::fs;

use tempfile::TempDir;

use crate::Error;
use crate::port::Port;
use crate::redis::RedisServer;

/// What a server needs to speak TLS, as PEM.
#[derive(Clone, Copy, Debug)]
pub struct Certificates<'a> {
    /// The server's certificate.
    pub certificate: &'a str,
    /// Its key.
    pub key: &'a str,
    /// The authority that signs the certificates of clients.
    pub ca: &'a str,
}

/// A Redis server with a second port for TLS.
#[derive(Debug)]
pub struct TlsRedis {
    // Dropped in this order: the server is gone before its files are removed.
    server: RedisServer,
    port: Port,
    _files: TempDir,
}

impl TlsRedis {
    /// Starts a server. `ask_clients` makes it refuse clients without a certificate.
    ///
    /// # Errors
    /// If there is no program to start, it was built without TLS, or a certificate is invalid.
    pub fn start(certificates: Certificates<'_>, ask_clients: bool) -> Result<Self, Error> {
        let failed = "cannot write the certificates for Redis";
        let files = tempfile::Builder::new()
            .prefix("redis-tls-")
            .tempdir()
            .map_err(Error::io(failed))?;
        let write = |name: &str, text: &str| {
            let path = files.path().join(name);
            fs::write(&path, text).map_err(Error::io(failed))?;
            Ok::<_, Error>(path.display().to_string())
        };
        let certificate = write("server.crt", certificates.certificate)?;
        let key = write("server.key", certificates.key)?;
        let ca = write("ca.crt", certificates.ca)?;
        let port = Port::reserve().map_err(Error::io("cannot reserve a port for TLS"))?;
        let server = RedisServer::start_with(&[
            ("tls-port", &port.number().to_string()),
            ("tls-cert-file", &certificate),
            ("tls-key-file", &key),
            ("tls-ca-cert-file", &ca),
            ("tls-auth-clients", if ask_clients { "yes" } else { "no" }),
        ])?;
        Ok(Self {
            server,
            port,
            _files: files,
        })
    }

    /// The address for TLS, by name: `rediss://localhost:PORT`.
    pub fn url(&self) -> String {
        format!("rediss://localhost:{}", self.port.number())
    }

    /// The server, which also answers without TLS, on its first port.
    pub fn server(&mut self) -> &mut RedisServer {
        &mut self.server
    }
}
