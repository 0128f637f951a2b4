//! TLS over a connection that somebody else made: the same authorities as for artifacts, or any certificate.

use crate::order::Certificates;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
};
use std::io::{Error, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// Speaks TLS with the server behind `stream`, which must be `server` (a name or an address) where certificates are
/// verified. Timeouts are the stream's.
///
/// # Errors
/// A name that is none, a configuration that the library refuses. What the server does wrong shows with the first
/// byte that is read or written.
pub fn client(
    stream: TcpStream,
    server: &str,
    certificates: Certificates,
) -> Result<impl Read + Write, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let name = ServerName::try_from(server.to_owned()).map_err(Error::other)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?;
    let config = match certificates {
        Certificates::Verified => builder.with_root_certificates(authorities()).with_no_client_auth(),
        Certificates::Any => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth(),
    };
    let connection = ClientConnection::new(Arc::new(config), name).map_err(Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

/// The machine's, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
fn authorities() -> RootCertStore {
    let mut store = RootCertStore::empty();
    // One that cannot be read vouches for nobody.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

/// Believes any certificate, but still that the server holds its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
