//! Where does a GeoIP file say that an address is?
//!
//! A file is held in memory as a whole: were it mapped, someone who writes over it in place could
//! end the process (SIGBUS). It is tried out before it is believed.

use std::{
    fmt, fs, io,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::SystemTime,
};

use maxminddb::{MaxMindDbError, Reader};
use nigh_proto::state::Location;
use serde::Deserialize;

/// One MaxMind DB file.
pub struct GeoFile {
    reader: Reader<Vec<u8>>,
}

/// What a file says of an address.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeoMatch<T> {
    pub found: Option<T>,
    /// Every address that shares so many leading bits has the same record.
    pub uniform_len: u8,
}

/// Tells one content of a file from the next without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    inode: u64,
    bytes: u64,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum GeoError {
    #[error("{path} cannot be read; put a MaxMind DB file there or take the key out of dns.toml")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} has {bytes} bytes, more than geoip.file_bytes_max = {bytes_max}")]
    TooLarge { path: PathBuf, bytes: u64, bytes_max: u64 },
    #[error("{path} is no whole MaxMind DB file; download it again")]
    Format { path: PathBuf, source: MaxMindDbError },
    #[error("{path} breaks when {address} is looked up in it; download it again")]
    Broken { path: PathBuf, address: IpAddr, source: MaxMindDbError },
    #[error("{path} knows none of the addresses it was tried with: is it of the right kind?")]
    Empty { path: PathBuf },
}

#[derive(Deserialize)]
struct City {
    location: Option<Point>,
}

#[derive(Deserialize)]
struct Point {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

#[derive(Deserialize)]
struct Asn {
    autonomous_system_number: Option<u32>,
}

impl Stamp {
    pub fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = fs::metadata(path)?;
        Ok(Self {
            modified: metadata.modified().ok(),
            inode: metadata.ino(),
            bytes: metadata.len(),
        })
    }
}

impl GeoFile {
    /// Reads the whole file and tries it out. Blocking; takes as long as reading does.
    pub fn open(path: &Path, bytes_max: u64) -> Result<Self, GeoError> {
        let read = |source| GeoError::Read { path: path.to_owned(), source };
        let mut file = fs::File::open(path).map_err(read)?;
        let bytes = file.metadata().map_err(read)?.len();
        if bytes > bytes_max {
            return Err(GeoError::TooLarge { path: path.to_owned(), bytes, bytes_max });
        }
        let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
        file.by_ref().take(bytes_max).read_to_end(&mut content).map_err(read)?;
        let reader = Reader::from_source(content)
            .map_err(|source| GeoError::Format { path: path.to_owned(), source })?;
        let file = Self { reader };
        file.try_out(path)?;
        Ok(file)
    }

    /// The record's coordinates, when it has valid ones.
    pub fn location(&self, address: IpAddr) -> GeoMatch<Location> {
        self.look_up::<City>(address).unwrap_or(GeoMatch::NOTHING).map(|city| {
            let point = city.location?;
            let location = Location { latitude: point.latitude?, longitude: point.longitude? };
            location.is_valid().then_some(location)
        })
    }

    /// The number of the autonomous system.
    pub fn asn(&self, address: IpAddr) -> Option<u32> {
        self.look_up::<Asn>(address).ok()?.found?.autonomous_system_number
    }

    fn look_up<'d, T: Deserialize<'d>>(
        &'d self,
        address: IpAddr,
    ) -> Result<GeoMatch<T>, MaxMindDbError> {
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Ok(GeoMatch::NOTHING);
        }
        let result = self.reader.lookup(address)?;
        let network = result.network()?;
        // An IPv4 address in a tree without IPv4: all of them have the same lack of a record.
        let is_same_family = network.is_ipv4() == address.is_ipv4();
        let uniform_len = if is_same_family { network.prefix() } else { 0 };
        Ok(GeoMatch { found: result.decode()?, uniform_len })
    }

    /// Looks up addresses spread over both families: each must be found or not, without an error.
    fn try_out(&self, path: &Path) -> Result<(), GeoError> {
        let v4 = (0..4096u32).map(|high| IpAddr::V4(Ipv4Addr::from_bits(high << 20 | 1 << 8)));
        let v6 = (0..4096u128).map(|high| IpAddr::V6(Ipv6Addr::from_bits(2 << 124 | high << 112)));
        for address in v4.chain(v6) {
            self.look_up::<serde::de::IgnoredAny>(address).map_err(|source| GeoError::Broken {
                path: path.to_owned(),
                address,
                source,
            })?;
        }
        let first = self.reader.networks(maxminddb::WithinOptions::default());
        match first.and_then(|mut networks| networks.next().transpose()) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(GeoError::Empty { path: path.to_owned() }),
            Err(source) => Err(GeoError::Format { path: path.to_owned(), source }),
        }
    }

    /// When the file says that it was built, in seconds since 1970.
    pub fn built_at_s(&self) -> u64 {
        self.reader.metadata().build_epoch
    }

    pub fn database_type(&self) -> &str {
        &self.reader.metadata().database_type
    }
}

impl<T> GeoMatch<T> {
    /// No record anywhere.
    const NOTHING: Self = GeoMatch { found: None, uniform_len: 0 };

    fn map<U>(self, then: impl FnOnce(T) -> Option<U>) -> GeoMatch<U> {
        GeoMatch { found: self.found.and_then(then), uniform_len: self.uniform_len }
    }
}

impl fmt::Debug for GeoFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeoFile").field("type", &self.database_type()).finish_non_exhaustive()
    }
}
