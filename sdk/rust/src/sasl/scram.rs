//! SCRAM (RFC 5802, RFC 7677), in which neither side shows the password.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

/// What proofs are made with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// Most rounds that are made for a broker: more would only keep this client busy.
const MAX_ITERATIONS: u32 = 1 << 20;

impl Hash {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha512 => &digest::SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Hash::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    fn sign(self, key: &[u8], what: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hmac(), key), what)
    }
}

/// One conversation. Its errors are for people.
pub(super) struct Scram {
    hash: Hash,
    password: String,
    nonce: String,
    bare: String,               // the first message without its head
    signature: Option<Vec<u8>>, // that the broker has to show
}

impl Scram {
    pub(super) fn new(hash: Hash, user: &str, password: &str) -> Result<Self, String> {
        let mut random = [0; 24];
        SystemRandom::new().fill(&mut random).map_err(|_| "this machine gives no random numbers".to_owned())?;
        Ok(Self::with_nonce(hash, user, password, STANDARD.encode(random)))
    }

    fn with_nonce(hash: Hash, user: &str, password: &str, nonce: String) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        Scram { hash, password: password.to_owned(), nonce, bare, signature: None }
    }

    /// What is said first.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// The proof that this client knows the password.
    pub(super) fn respond(&mut self, challenge: &[u8]) -> Result<String, String> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| "its challenge is no text".to_owned())?;
        let field = |name: &str| {
            let found = challenge.split(',').find_map(|f| f.strip_prefix(name));
            found.ok_or_else(|| format!("its challenge has no {name}"))
        };
        let nonce = field("r=")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("it does not answer to what it was told".to_owned());
        }
        let salt = STANDARD.decode(field("s=")?).map_err(|_| "its salt is no base64".to_owned())?;
        let rounds = field("i=")?.parse().ok().filter(|n| *n <= MAX_ITERATIONS).and_then(NonZeroU32::new);
        let rounds = rounds
            .ok_or_else(|| format!("it wants {} rounds, of at most {MAX_ITERATIONS}", field("i=").unwrap_or("no")))?;

        let mut salted = vec![0; self.hash.digest().output_len()];
        pbkdf2::derive(self.hash.pbkdf2(), rounds, &salt, self.password.as_bytes(), &mut salted);
        let client_key = self.hash.sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.hash.digest(), client_key.as_ref());
        let last = format!("c=biws,r={nonce}");
        let exchanged = format!("{},{challenge},{last}", self.bare);
        let signature = self.hash.sign(stored_key.as_ref(), exchanged.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let server_key = self.hash.sign(&salted, b"Server Key");
        self.signature = Some(self.hash.sign(server_key.as_ref(), exchanged.as_bytes()).as_ref().to_vec());
        Ok(format!("{last},p={}", STANDARD.encode(proof)))
    }

    /// Whether the broker knows the password too.
    pub(super) fn verify(&self, answer: &[u8]) -> Result<(), String> {
        let answer = String::from_utf8_lossy(answer);
        if let Some(e) = answer.strip_prefix("e=") {
            return Err(e.to_owned());
        }
        let shown = answer.split(',').find_map(|f| f.strip_prefix("v=")).and_then(|v| STANDARD.decode(v).ok());
        match (&self.signature, shown) {
            (Some(want), Some(shown)) if *want == shown => Ok(()),
            _ => Err("it does not know the password itself: it is not who it says".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conversation of RFC 7677 §3.
    fn example() -> (Scram, &'static str, &'static str) {
        let scram = Scram::with_nonce(Hash::Sha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO".to_owned());
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        (scram, challenge, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    }

    #[test]
    fn the_conversation_of_the_rfc_goes_as_it_says() {
        let (mut scram, challenge, verifier) = example();
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            scram.respond(challenge.as_bytes()).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        scram.verify(verifier.as_bytes()).unwrap();
    }

    #[test]
    fn a_broker_that_does_not_know_the_password_is_not_believed() {
        let (mut scram, challenge, _) = example();
        assert!(scram.verify(b"v=").is_err(), "before it was asked");
        scram.respond(challenge.as_bytes()).unwrap();
        for answer in ["", "v=", "v=AAAA", "e=invalid-proof", "v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="] {
            assert!(scram.verify(answer.as_bytes()).is_err(), "{answer:?}");
        }
    }

    #[test]
    fn what_a_broker_may_say_does_not_bring_this_client_down() {
        for challenge in [
            "",
            "r=",
            "r=other,s=AAAA,i=1",
            "r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=!,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=0",
            "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4294967295",
            "r=rOprNGfwEbeRWgbNEkqOx,i=1",
        ] {
            assert!(example().0.respond(challenge.as_bytes()).is_err(), "{challenge}");
        }
        assert!(example().0.respond(&[0xff, 0xfe]).is_err());
    }
}
