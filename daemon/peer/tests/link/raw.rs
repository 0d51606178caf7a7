//! Someone who speaks TLS and writes frames by hand: a stranger, or a paired node that misbehaves.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use serde_json::{Value, json};
use tandem_peer::{identity::Fingerprint, link::PROTOCOL_VERSION};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// A key with a certificate that it signed itself.
pub(crate) struct Someone {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Someone {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Self { certificate: certificate.der().clone(), key }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The same certificate with a key that is not its own.
    pub(crate) fn with_key_of(&self, other: &Self) -> Self {
        Self { certificate: self.certificate.clone(), key: other.key.clone_key() }
    }

    /// Whether or not the two belong together.
    fn certified(&self) -> (Arc<CryptoProvider>, SingleCertAndKey) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let signer = provider.key_provider.load_private_key(self.key.clone_key()).unwrap();
        let certified = CertifiedKey::new(vec![self.certificate.clone()], signer);
        (provider, certified.into())
    }

    pub(crate) async fn dial(&self, port: u16) -> std::io::Result<client::TlsStream<TcpStream>> {
        let (provider, certified) = self.certified();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone))
            .with_client_cert_resolver(Arc::new(certified));
        let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    pub(crate) async fn accept(
        &self,
        listener: &TcpListener,
    ) -> std::io::Result<server::TlsStream<TcpStream>> {
        let (provider, certified) = self.certified();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(Arc::new(Anyone))
            .with_cert_resolver(Arc::new(certified));
        let (tcp, _) = listener.accept().await?;
        TlsAcceptor::from(Arc::new(config)).accept(tcp).await
    }
}

pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend(body);
    frame
}

/// A message of the version that is spoken now, as a frame.
pub(crate) fn message(body: &Value) -> Vec<u8> {
    framed(&serde_json::to_vec(&json!({"v": PROTOCOL_VERSION, "body": body})).unwrap())
}

/// The body of an account of the node `b`.
pub(crate) fn account(instance: &str, number: u64, phase: &str) -> Value {
    json!({
        "instance": instance,
        "number": number,
        "age_ms": 0,
        "report": crate::node::report("b", phase),
        "secrets": {"session": null, "gateway_key": null},
    })
}

pub(crate) async fn write(stream: &mut (impl AsyncWrite + Unpin), body: &Value) {
    let frame = message(body);
    stream.write_all(&frame).await.unwrap();
    stream.flush().await.unwrap();
}

pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Value> {
    let size = stream.read_u32_le().await?;
    let mut body = vec![0; size as usize];
    stream.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body).unwrap())
}

/// Asks, and returns what came back.
pub(crate) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    account: Value,
) -> Value {
    write(stream, &json!({"ask": account})).await;
    read(stream).await.unwrap()
}

#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
