//! Authentication by SASL, on a connection that is new.

mod scram;

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;

use crate::builder::Mechanism;
use crate::error::{Code, Error, Result};
use crate::wire::Connection;

use scram::{Hash, Scram};

/// Says who this client is, and returns how long that is believed; `None`: as long as the connection lives.
pub(crate) async fn authenticate(connection: &Connection, mechanism: &Mechanism) -> Result<Option<Duration>> {
    let refused = |reason: String| Error::Authentication {
        broker: connection.broker().to_owned(),
        mechanism: mechanism.name().to_owned(),
        reason,
    };
    handshake(connection, mechanism, &refused).await?;
    match mechanism {
        Mechanism::Plain { user, password } => {
            let first = format!("\0{user}\0{password}");
            Ok(step(connection, first.into(), &refused).await?.1)
        }
        Mechanism::Token(source) => {
            let token = (source.0)().await.map_err(|e| refused(format!("there is no token: {e}")))?;
            let first = format!("n,,\x01auth=Bearer {token}\x01\x01");
            let (answer, lifetime) = step(connection, first.into(), &refused).await?;
            if !answer.is_empty() {
                return Err(refused(String::from_utf8_lossy(&answer).into_owned())); // RFC 7628 §3.2.2
            }
            Ok(lifetime)
        }
        Mechanism::Scram256 { user, password } => scram(connection, Hash::Sha256, user, password, &refused).await,
        Mechanism::Scram512 { user, password } => scram(connection, Hash::Sha512, user, password, &refused).await,
    }
}

async fn scram(
    connection: &Connection,
    hash: Hash,
    user: &str,
    password: &str,
    refused: &impl Fn(String) -> Error,
) -> Result<Option<Duration>> {
    let mut scram = Scram::new(hash, user, password).map_err(refused)?;
    let (challenge, _) = step(connection, scram.first().into(), refused).await?;
    let proof = scram.respond(&challenge).map_err(refused)?;
    let (verifier, lifetime) = step(connection, proof.into(), refused).await?;
    scram.verify(&verifier).map_err(refused)?;
    Ok(lifetime)
}

/// Agrees on the mechanism. The answer is read by hand: it has no flexible version, whose lengths are guarded.
async fn handshake(connection: &Connection, m: &Mechanism, refused: &impl Fn(String) -> Error) -> Result<()> {
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(m.name()));
    let answer = connection.send(&request, 1)?.raw().await?;
    let (code, rest) =
        answer.split_at_checked(2).ok_or_else(|| Error::malformed("SaslHandshake", "it is cut short"))?;
    match Code::try_from_code(i16::from_be_bytes([code[0], code[1]])) {
        None => Ok(()),
        Some(Code::UnsupportedSaslMechanism) => Err(refused(format!("it has {}", mechanisms(rest)))),
        Some(code) => Err(Error::broker("agree on a SASL mechanism", code)),
    }
}

/// Names of mechanisms, for people.
fn mechanisms(mut list: &[u8]) -> String {
    let mut names = Vec::new();
    list = list.get(4..).unwrap_or_default(); // how many there are
    while let Some((n, rest)) = list.split_at_checked(2) {
        let Some((name, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([n[0], n[1]]))) else { break };
        names.push(String::from_utf8_lossy(name).into_owned());
        list = rest;
    }
    if names.is_empty() { "no mechanism".to_owned() } else { names.join(", ") }
}

/// One exchange: what the broker says, and how long the session lasts.
async fn step(
    connection: &Connection,
    bytes: Bytes,
    refused: &impl Fn(String) -> Error,
) -> Result<(Bytes, Option<Duration>)> {
    let version = connection.version::<SaslAuthenticateRequest>(i16::MAX)?;
    let answer =
        connection.send(&SaslAuthenticateRequest::default().with_auth_bytes(bytes), version)?.receive().await?;
    if let Some(code) = Code::try_from_code(answer.error_code) {
        let said = answer.error_message.map(|m| m.to_string()).unwrap_or_default();
        return Err(refused(if said.is_empty() { code.to_string() } else { said }));
    }
    let lifetime = u64::try_from(answer.session_lifetime_ms).ok().filter(|ms| *ms > 0);
    Ok((answer.auth_bytes, lifetime.map(Duration::from_millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mechanisms_are_named_however_the_list_is_cut() {
        let list = b"\0\0\0\x02\0\x05PLAIN\0\x0dSCRAM-SHA-256";
        assert_eq!(mechanisms(list), "PLAIN, SCRAM-SHA-256");
        for n in 0..list.len() {
            mechanisms(&list[..n]);
        }
    }
}
