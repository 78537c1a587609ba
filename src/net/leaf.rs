//! Certificates for the hosts that agents mean, minted as they come, from a CA that agents trust.
//!
//! INVARIANT (bounded): a name costs one signature, however many connections ask for it at once; all
//! leaves share one key, which lives in memory and dies with the process; the least used names are
//! forgotten beyond a limit.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::{default_provider, sign};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{HostName, HostPattern};
use super::tls::{TlsError, resolving_server};
use crate::id::{RandomError, random_bytes};
use crate::secret::Secret;
use crate::time::{Clock, Timestamp};

/// What an operator says about interception.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Certificate of the CA that agents trust, PEM.
    pub(crate) ca: PathBuf,
    /// Its private key, PEM, readable by its owner alone.
    pub(crate) key: PathBuf,
    /// The hosts for which certificates are made; no other name ever gets one.
    pub(crate) hosts: Vec<HostPattern>,
    /// How long a leaf is valid; it is replaced when half of that is over.
    pub(crate) lifetime: Duration,
    /// Names whose leaves are kept.
    pub(crate) kept: usize,
}

/// Why nothing can be intercepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeafError {
    #[error("cannot read `{file}`; `certs/make-ca` makes a CA, and `interception` names its files")]
    Read { file: PathBuf, source: io::Error },
    #[error("`{file}` can be read by others than its owner (mode {mode:o}): run `chmod 600 {file}`")]
    Open { file: PathBuf, mode: u32 },
    #[error("`{file}` is no private key in PEM that can sign; `certs/make-ca` makes one")]
    Key { file: PathBuf, source: rcgen::Error },
    #[error("`{file}` is no certificate in PEM; name that of the CA")]
    Certificate { file: PathBuf },
    #[error("`{file}` cannot sign certificates: {why}; `certs/make-ca` makes a CA that can")]
    Unfit { file: PathBuf, why: &'static str },
    #[error("`{ca}` with `{key}` makes no certificate for `{host}` that clients would accept: {why}")]
    Refused { ca: PathBuf, key: PathBuf, host: String, why: String },
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Speaks TLS as the hosts that an operator listed.
#[derive(Debug)]
pub(crate) struct Interception {
    hosts: Vec<HostPattern>,
    pub(super) tls: Arc<ServerConfig>,
    /// Has no certificate for anyone: tells a client so in the words of TLS.
    pub(super) refusing: Arc<ServerConfig>,
}

impl Interception {
    /// Reads the CA and makes sure that clients which trust it accept its leaves for each of the hosts.
    ///
    /// # Errors
    /// When a file cannot be read, the key is open to others, or the CA cannot sign.
    pub(crate) fn open(options: &Options, clock: Clock) -> Result<Self, LeafError> {
        let mint = Mint::open(options, clock)?;
        for host in &options.hosts {
            mint.prove(options, &host.sample())?;
        }
        Ok(Self {
            hosts: options.hosts.clone(),
            tls: resolving_server(Arc::new(mint))?,
            refusing: resolving_server(Arc::new(Nobody))?,
        })
    }

    pub(crate) fn covers(&self, host: &HostName) -> bool {
        host.dns().is_some() && self.hosts.iter().any(|pattern| pattern.covers(host))
    }
}

/// Makes leaves, and keeps them.
struct Mint {
    issuer: Issuer<'static, KeyPair>,
    /// That of all leaves.
    key: KeyPair,
    signing: Arc<dyn rustls::sign::SigningKey>,
    /// The CA's own end.
    expires: Timestamp,
    lifetime: Duration,
    clock: Clock,
    kept: Mutex<Kept>,
}

/// One name's leaf, minted by whoever asks first while the others wait for it.
type Slot = Arc<OnceLock<Option<Leaf>>>;

#[derive(Clone)]
struct Leaf {
    certified: Arc<CertifiedKey>,
    renew: Timestamp,
}

/// Two generations: what the older one holds and nobody asks for again goes with it.
struct Kept {
    young: HashMap<Box<str>, Slot>,
    old: HashMap<Box<str>, Slot>,
    per_generation: usize,
}

impl Mint {
    fn open(options: &Options, clock: Clock) -> Result<Self, LeafError> {
        let issuer_key = private_key(&options.key)?;
        let unreadable = || LeafError::Certificate { file: options.ca.clone() };
        let ca = read(&options.ca)?;
        let ca = CertificateDer::from_pem_slice(ca.expose().as_bytes()).map_err(|_| unreadable())?;
        let (_, parsed) = X509Certificate::from_der(&ca).map_err(|_| unreadable())?;
        let unfit = |why| LeafError::Unfit { file: options.ca.clone(), why };
        if !parsed.is_ca() {
            return Err(unfit("it is no certificate of a CA"));
        }
        let usage = parsed.key_usage().ok().flatten();
        if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(unfit("its key usage does not let it"));
        }
        let now = clock.now().as_seconds();
        let (from, until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        if until <= now {
            return Err(unfit("it has expired"));
        }
        if from > now {
            return Err(unfit("it is not valid yet"));
        }
        if parsed.name_constraints().ok().flatten().is_none() {
            tracing::warn!(
                file = %options.ca.display(),
                "this CA may sign for any host: whoever gets its key can impersonate all of them to the agents; \
                 `certs/make-ca` makes one that may sign for the intercepted hosts only"
            );
        }
        let key = KeyPair::generate()?;
        let signing = signing_key(&key)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&ca, issuer_key)?,
            signing,
            key,
            expires: Timestamp::from_micros(until.saturating_mul(1_000_000)),
            lifetime: options.lifetime,
            clock,
            kept: Mutex::new(Kept::new(options.kept)),
        })
    }

    /// A leaf for that name is one that a client of ours accepts.
    fn prove(&self, options: &Options, host: &str) -> Result<(), LeafError> {
        let leaf = self.mint(host, self.clock.now())?;
        let refused = |why: String| LeafError::Refused {
            ca: options.ca.clone(),
            key: options.key.clone(),
            host: host.to_owned(),
            why,
        };
        let ca = read(&options.ca)?;
        let ca = CertificateDer::from_pem_slice(ca.expose().as_bytes())
            .map_err(|_| LeafError::Certificate { file: options.ca.clone() })?;
        let mut roots = RootCertStore::empty();
        roots.add(ca).map_err(|error| refused(error.to_string()))?;
        let provider = Arc::new(default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| refused(error.to_string()))?;
        let now = Duration::from_secs(u64::try_from(self.clock.now().as_seconds()).unwrap_or(0));
        let certificate = leaf.certified.end_entity_cert().map_err(|error| refused(error.to_string()))?;
        verifier
            .verify_server_cert(certificate, &[], &name, &[], UnixTime::since_unix_epoch(now))
            .map_err(|error| refused(error.to_string()))?;
        Ok(())
    }

    /// The leaf for a name, kept or fresh.
    fn leaf(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let now = self.clock.now();
        let mut slot = self.kept().slot(name, None);
        for _ in 0..2 {
            let leaf = slot.get_or_init(|| {
                let minted = self.mint(name, now);
                minted.inspect_err(|error| tracing::error!(%error, "no certificate for an intercepted host")).ok()
            });
            match leaf {
                Some(leaf) if now < leaf.renew => return Some(Arc::clone(&leaf.certified)),
                _ => slot = self.kept().slot(name, Some(&slot)),
            }
        }
        None
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mint(&self, name: &str, now: Timestamp) -> Result<Leaf, LeafError> {
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "countersign");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let [first, rest @ ..] = random_bytes::<16>()?;
        // Positive, and of one length. All leaves have one key, from which it would be made otherwise.
        let serial: Vec<u8> = std::iter::once(first & 0x7f | 0x40).chain(rest).collect();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let seconds = |at: Timestamp| u64::try_from(at.as_seconds()).unwrap_or(0);
        let until = seconds(now).saturating_add(self.lifetime.as_secs()).min(seconds(self.expires));
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(seconds(now).saturating_sub(SLOW_CLOCK_SECONDS));
        params.not_after = epoch + Duration::from_secs(until);
        let certificate = params.signed_by(&self.key, &self.issuer)?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], Arc::clone(&self.signing));
        let half = until.saturating_sub(seconds(now)) / 2;
        let renew = i64::try_from(seconds(now).saturating_add(half)).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Ok(Leaf { certified: Arc::new(certified), renew: Timestamp::from_micros(renew) })
    }
}

impl ResolvesServerCert for Mint {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // The door has made sure that this is a name it covers.
        self.leaf(HostName::parse(hello.server_name()?)?.dns()?)
    }
}

impl fmt::Debug for Mint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mint").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl Kept {
    fn new(names: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), per_generation: names.div_ceil(2) }
    }

    /// The slot of a name; another one than `stale`.
    fn slot(&mut self, name: &str, stale: Option<&Slot>) -> Slot {
        let is_fit = |slot: &Slot| stale.is_none_or(|stale| !Arc::ptr_eq(slot, stale));
        if let Some(slot) = self.young.get(name).filter(|slot| is_fit(slot)) {
            return Arc::clone(slot);
        }
        if self.young.len() >= self.per_generation {
            self.old = std::mem::take(&mut self.young);
        }
        let slot = self.old.remove(name).filter(is_fit).unwrap_or_default();
        self.young.insert(name.into(), Arc::clone(&slot));
        slot
    }
}

/// Has no certificate.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

fn private_key(file: &Path) -> Result<KeyPair, LeafError> {
    let failed = |source| LeafError::Read { file: file.to_owned(), source };
    let mode = fs::metadata(file).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(LeafError::Open { file: file.to_owned(), mode });
    }
    KeyPair::from_pem(read(file)?.expose()).map_err(|source| LeafError::Key { file: file.to_owned(), source })
}

fn read(file: &Path) -> Result<Secret, LeafError> {
    fs::read_to_string(file).map(Secret::new).map_err(|source| LeafError::Read { file: file.to_owned(), source })
}

fn signing_key(key: &KeyPair) -> Result<Arc<dyn rustls::sign::SigningKey>, LeafError> {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    sign::any_supported_type(&der).map_err(|source| LeafError::Tls(TlsError::Setup(source)))
}

/// How far a client's clock may be behind.
const SLOW_CLOCK_SECONDS: u64 = 60 * 60;

#[cfg(test)]
mod tests;
