//! Every transport and every way to say who one is, against a real server.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rustmq::{Builder, Client, Error, Record, Sasl, Tls, Transport, Via};

use crate::harness::{Failed, Options, Server, server_binary, within};

const PASSWORD: &str = "correct horse battery";

/// Produces a record over the transport that is set, and reports which one was used.
async fn produces(builder: Builder) -> Result<Via, Failed> {
    let client = builder.topic_creation().build().await?;
    let sent = within("a record is acked", async { client.producer().build()?.send(Record::to("t").value("1")).await });
    let sent = sent.await?;
    let using = client.links().first().and_then(|l| l.using);
    client.close().await;
    sent?;
    using.ok_or_else(|| "the client has no link".into())
}

/// Whatever the server has, each transport reaches it.
pub async fn transports(_: &Server) -> Result<(), Failed> {
    let open = Server::start(Options::default())?;
    let secure = Server::start(Options::default().tls())?;
    let to = |s: &Server, transport| Client::builder().brokers([s.addr()]).transport(transport);
    let trusting = |s: &Server| Tls::new().ca_file(s.ca_file());
    for (what, builder, want) in [
        ("tcp in the clear", to(&open, Transport::Tcp), Some(Via::Tcp)),
        ("auto in the clear", to(&open, Transport::Auto), Some(Via::Tcp)),
        ("quic", to(&open, Transport::Quic).tls(trusting(&open).quic_only()), Some(Via::Quic)),
        ("tls", to(&secure, Transport::Tcp).tls(trusting(&secure)), Some(Via::Tcp)),
        ("quic beside tls", to(&secure, Transport::Quic).tls(trusting(&secure)), Some(Via::Quic)),
        ("auto", to(&secure, Transport::Auto).tls(trusting(&secure)), None),
    ] {
        let used = produces(builder).await.map_err(|why| format!("{what}: {why}"))?;
        if want.is_some_and(|want| want != used) {
            return Err(format!("{what}: {used:?} was used").into());
        }
    }
    let refused = [
        ("an authority that is not named", to(&secure, Transport::Tcp).tls(trusting(&open))),
        ("an authority that is not named, over QUIC", to(&secure, Transport::Quic).tls(trusting(&open))),
    ];
    for (what, builder) in refused {
        let why = match builder.request_timeout(Duration::from_secs(5)).build().await {
            Ok(client) => within("a ping ends", client.ping()).await?,
            Err(why) => Err(why),
        };
        match why {
            Err(why) if why.to_string().contains("ertificate") || why.to_string().contains("Issuer") => {}
            other => return Err(format!("{what}: {other:?}").into()),
        }
    }
    for (what, builder) in [
        ("QUIC in the clear", Client::builder().transport(Transport::Quic)),
        ("a file that is not there", Client::builder().tls(Tls::new().ca_file("not-there.pem"))),
        ("a password in the clear", Client::builder().sasl(Sasl::plain("u", "p"))),
        ("a password in the clear over TCP", {
            Client::builder().sasl(Sasl::plain("u", "p")).tls(Tls::new().quic_only())
        }),
        ("a token in the clear", Client::builder().sasl(Sasl::token(|| async { Ok(String::new()) }))),
    ] {
        match builder.build().await {
            Err(Error::Config(_)) => {}
            Err(why) => return Err(format!("{what}: {why}").into()),
            Ok(_) => return Err(format!("{what} is taken").into()),
        }
    }
    Ok(())
}

fn admin(args: &[&str]) -> Result<(), Failed> {
    let done = Command::new(server_binary()).arg("admin").args(args).output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("rustmq admin {args:?}: {}", String::from_utf8_lossy(&done.stderr)).into())
}

/// An identity provider: keys as a server reads them, and a token of carol's.
fn identity_provider(file: &Path) -> Result<String, Failed> {
    let random = SystemRandom::new();
    let fail = |_| "make a key";
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(fail)?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
        .map_err(|_| "read the key back")?;
    let point = key.public_key().as_ref(); // 4, x, y
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
    std::fs::write(
        file,
        format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k1","use":"sig","x":"{x}","y":"{y}"}}]}}"#),
    )?;
    let until = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 600;
    let claims = format!(r#"{{"iss":"https://id.example","aud":"rustmq","sub":"carol","exp":{until}}}"#);
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"k1"}"#), URL_SAFE_NO_PAD.encode(claims));
    let signature = key.sign(&random, signed.as_bytes()).map_err(fail)?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
}

/// SCRAM, PLAIN and OAUTHBEARER let in whom they should, over TCP and over QUIC, and nobody else.
pub async fn sasl(_: &Server) -> Result<(), Failed> {
    let dir = tempfile::TempDir::with_prefix("rustmq-sdk-")?;
    let keys = dir.path().join("keys.json");
    let token = identity_provider(&keys)?;
    let options = Options::default()
        .tls()
        .set("security.sasl.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER")
        .set(format!("security.sasl.oauth.jwks={}", keys.display()))
        .set("security.sasl.oauth.issuer=https://id.example")
        .set("security.sasl.oauth.audience=rustmq");
    let server = Server::start(options)?;
    let file = dir.path().join("password");
    std::fs::write(&file, PASSWORD)?;
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let (url, file) = (server.admin_url(), file.display().to_string());
    admin(&["--url", &url, "users", "create", "alice", "--password-file", &file])?;
    admin(&["--url", &url, "topics", "create", "t"])?;
    for who in ["alice", "carol"] {
        admin(&[
            "--url",
            &url,
            "acl",
            "create",
            "--principal",
            who,
            "--resource",
            "topic.t",
            "--permissions",
            "write",
        ])?;
    }
    let by = |transport, sasl| {
        Client::builder()
            .brokers([server.addr()])
            .transport(transport)
            .tls(Tls::new().ca_file(server.ca_file()))
            .sasl(sasl)
            .request_timeout(Duration::from_secs(5))
    };
    let bearer = |token: &str| {
        let token = token.to_owned();
        Sasl::token(move || {
            let token = token.clone();
            async { Ok(token) }
        })
    };
    for transport in [Transport::Tcp, Transport::Quic, Transport::Auto] {
        for (what, sasl) in [
            ("SCRAM-SHA-512", Sasl::scram("alice", PASSWORD)),
            ("SCRAM-SHA-256", Sasl::scram256("alice", PASSWORD)),
            ("PLAIN", Sasl::plain("alice", PASSWORD)),
            ("OAUTHBEARER", bearer(&token)),
        ] {
            produces(by(transport, sasl)).await.map_err(|why| format!("{what} over {transport:?}: {why}"))?;
        }
        for (what, sasl) in [
            ("another password of SCRAM", Sasl::scram("alice", "wrong")),
            ("another password of PLAIN", Sasl::plain("alice", "wrong")),
            ("a user who is not there", Sasl::scram("mallory", PASSWORD)),
            ("a token with another signature", bearer(&token[..token.len() - 8])),
        ] {
            let why = match by(transport, sasl).build().await {
                Ok(client) => within("a ping ends", client.ping()).await?,
                Err(why) => Err(why),
            };
            match why {
                Err(why @ Error::Authentication { .. }) if !why.is_retriable() => {}
                other => return Err(format!("{what} over {transport:?}: {other:?}").into()),
            }
        }
    }
    Ok(())
}

/// A client's certificate says who it is; another one is shown once its files are replaced.
pub async fn mutual_tls(_: &Server) -> Result<(), Failed> {
    let dir = tempfile::TempDir::with_prefix("rustmq-sdk-")?;
    let at = |name: &str| dir.path().join(name).display().to_string();
    admin(&["ca", "init", "--no-passphrase", "--ca-dir", &at("ca")])?;
    for who in ["alice", "bob"] {
        admin(&["certs", "issue", who, "--profile", "client", "--ca-dir", &at("ca"), "--out", &at("certs")])?;
    }
    let options = Options::default()
        .tls()
        .set("security.tls.client_auth=require")
        .set(format!("security.tls.client_ca_file={}", at("certs/bundle.pem")))
        .set("security.authorization.super_users=CN=alice;CN=bob");
    let server = Server::start(options)?;
    let show = |who: &str| -> Result<(), Failed> {
        for kind in ["key", "pem"] {
            std::fs::copy(at(&format!("certs/{who}.{kind}")), at(&format!("shown.{kind}.new")))?;
            std::fs::rename(at(&format!("shown.{kind}.new")), at(&format!("shown.{kind}")))?;
        }
        Ok(())
    };
    let trusting = || Tls::new().ca_file(server.ca_file());
    let to = |transport| {
        Client::builder().brokers([server.addr()]).transport(transport).request_timeout(Duration::from_secs(5))
    };
    for transport in [Transport::Tcp, Transport::Quic] {
        show("alice")?;
        let tls = trusting().identity(at("shown.pem"), at("shown.key"));
        produces(to(transport).tls(tls.clone())).await.map_err(|why| format!("alice over {transport:?}: {why}"))?;
        show("bob")?;
        produces(to(transport).tls(tls)).await.map_err(|why| format!("bob over {transport:?}: {why}"))?;
        let nobody = to(transport).tls(trusting()).build().await?;
        if within("a ping ends", nobody.ping()).await?.is_ok() {
            return Err(format!("who shows no certificate is let in over {transport:?}").into());
        }
        nobody.close().await;
    }
    Ok(())
}
