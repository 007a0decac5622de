//! What a broker understands, as it says of itself in ApiVersions.

use std::collections::HashMap;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::{Request, StrBytes};

use crate::error::{Code, Error, Result};
use crate::wire::{Connection, decode};

/// The newest version of ApiVersions that this crate speaks.
const NEWEST: i16 = 4;

/// What a broker understands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Versions {
    ranges: HashMap<i16, (i16, i16)>,
    features: HashMap<String, i16>,
}

impl Versions {
    /// Asks a broker. One that does not know the version of the question says in version 0 which it knows.
    pub(crate) async fn ask(connection: &Connection) -> Result<Self> {
        let mut version = NEWEST;
        loop {
            let request = ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str("rustmq-rust"))
                .with_client_software_version(StrBytes::from_static_str(crate::VERSION));
            let request = if version < 3 { ApiVersionsRequest::default() } else { request };
            let mut answer = connection.send(&request, version)?.raw().await?;
            let code = answer.clone().try_get_i16().map_err(|e| Error::malformed("ApiVersions", e.to_string()))?;
            match Code::try_from_code(code) {
                None if version >= 3 => return Ok(Versions::read(decode("ApiVersions", &mut answer, version)?)),
                None => return Versions::read_early(&mut answer),
                Some(Code::UnsupportedVersion) if version > 0 => {
                    let known = Versions::read_early(&mut answer).unwrap_or_default();
                    version = known.ranges.get(&ApiVersionsRequest::KEY).map_or(0, |r| r.1.min(version - 1)).max(0);
                }
                Some(code) => return Err(Error::broker("ask for versions", code)),
            }
        }
    }

    fn read(answer: ApiVersionsResponse) -> Self {
        Versions {
            ranges: answer.api_keys.iter().map(|k| (k.api_key, (k.min_version, k.max_version))).collect(),
            features: answer.finalized_features.iter().map(|f| (f.name.to_string(), f.max_version_level)).collect(),
        }
    }

    /// Versions 0 to 2, whose arrays have lengths of four bytes.
    fn read_early(answer: &mut Bytes) -> Result<Self> {
        let short = |e: bytes::TryGetError| Error::malformed("ApiVersions", e.to_string());
        answer.try_get_i16().map_err(short)?; // the error code
        let n = answer.try_get_i32().map_err(short)?;
        let mut ranges = HashMap::new();
        for _ in 0..n {
            let key = answer.try_get_i16().map_err(short)?;
            let least = answer.try_get_i16().map_err(short)?;
            ranges.insert(key, (least, answer.try_get_i16().map_err(short)?));
        }
        Ok(Versions { ranges, features: HashMap::new() })
    }

    /// The newest version of a request that both know and that is not above `most`; `None`: there is none. Of requests
    /// that have flexible versions no other is used ([`crate::wire::guard`]), which Kafka has since 2.8.
    pub(crate) fn pick<R: Request>(&self, most: i16) -> Option<i16> {
        let (least, newest) = *self.ranges.get(&R::KEY)?;
        let version = newest.min(R::VERSIONS.max).min(most);
        let flexible = R::header_version(version) == R::header_version(R::VERSIONS.max);
        (version >= least && version >= R::VERSIONS.min && flexible).then_some(version)
    }

    /// The level of a finalised feature; 0: there is none.
    pub(crate) fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or_default()
    }
}

/// A request's name, for people.
pub(crate) fn name_of(key: i16) -> String {
    ApiKey::try_from(key).map_or_else(|()| format!("request {key}"), |k| format!("{k:?}"))
}
