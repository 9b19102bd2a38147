//! `sslmode` against a server with a certificate signed by an authority of our own.

use crate::server::{Options, Server};
use crate::support::*;
use concord_connectors::postgres::{Password, SslMode, open};
use concord_engine::connector::Connector;
use concord_engine::error::Code;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Makes an authority and a certificate for `localhost`; gives back the certificate and its key.
fn certificate(directory: &Path) -> (String, String) {
    let run = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(directory).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(directory.join("ext"), "subjectAltName=DNS:localhost\n").unwrap();
    run(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
    ]);
    run(&["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"]);
    run(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "30",
        "-extfile",
        "ext",
        "-out",
        "server.crt",
    ]);
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    (read("server.crt"), read("server.key"))
}

/// What came of reading and of opening the feed with these settings.
async fn attempt(system: &System, user: &str, mode: SslMode, host: &str, authority: Option<&Path>) -> Result<(), Code> {
    let mut config = config(&system.database);
    config.username = user.into();
    config.password = Password::new("secret");
    config.sslmode = mode;
    config.host = host.into();
    config.sslrootcert = authority.map(Into::into);
    let connector = open(config).map_err(|error| error.code)?;
    connector.objects().await.map_err(|error| error.code)?;
    let feed = connector.prepare(&[selection("t")], &[]).await.map_err(|error| error.code)?;
    drop(connector.capture(&feed[0], &feed[0].position).await.map_err(|error| error.code)?);
    connector.release(&["t".into()]).await.map_err(|error| error.code)
}

#[tokio::test]
async fn each_sslmode_connects_exactly_where_libpq_would() {
    let directory = tempfile::tempdir().unwrap();
    let hba = [
        "hostssl all tls_only 127.0.0.1/32 scram-sha-256",
        "hostnossl all plain_only 127.0.0.1/32 scram-sha-256",
        "host all tls_only,plain_only 127.0.0.1/32 reject",
    ];
    let options = Options { tls: Some(certificate(directory.path())), hba: hba.map(String::from).to_vec(), ..Options::default() };
    let server = Arc::new(Server::start(&options));
    server
        .psql("CREATE ROLE tls_only SUPERUSER LOGIN PASSWORD 'secret'; CREATE ROLE plain_only SUPERUSER LOGIN PASSWORD 'secret'");
    let system = system_on(&server, "CREATE TABLE t (id int PRIMARY KEY)");
    let authority = directory.path().join("ca.crt");
    let ca = Some(authority.as_path());
    for (user, mode, host, root, expected) in [
        ("tls_only", SslMode::Disable, "localhost", None, Err(Code::AuthenticationFailed)),
        ("tls_only", SslMode::Allow, "localhost", None, Ok(())),
        ("tls_only", SslMode::Prefer, "localhost", None, Ok(())),
        ("tls_only", SslMode::Require, "localhost", None, Ok(())),
        ("tls_only", SslMode::Require, "127.0.0.1", ca, Ok(())),
        ("tls_only", SslMode::VerifyCa, "localhost", None, Err(Code::TlsFailed)),
        ("tls_only", SslMode::VerifyCa, "127.0.0.1", ca, Ok(())),
        ("tls_only", SslMode::VerifyFull, "localhost", ca, Ok(())),
        ("tls_only", SslMode::VerifyFull, "127.0.0.1", ca, Err(Code::TlsFailed)),
        ("plain_only", SslMode::Disable, "localhost", None, Ok(())),
        ("plain_only", SslMode::Allow, "localhost", None, Ok(())),
        ("plain_only", SslMode::Prefer, "localhost", None, Ok(())),
        ("plain_only", SslMode::Require, "localhost", None, Err(Code::AuthenticationFailed)),
    ] {
        let came = attempt(&system, user, mode, host, root).await;
        assert_eq!(came, expected, "{user} {mode:?} {host} {root:?}");
    }
    let mut wrong = config(&system.database);
    wrong.username = "tls_only".into();
    wrong.password = Password::new("wrong");
    let error = open(wrong).unwrap().objects().await.unwrap_err();
    assert_eq!(error.code, Code::AuthenticationFailed);
    assert!(!error.chain().contains("wrong"));
}

#[tokio::test]
async fn a_server_without_tls_serves_prefer_and_refuses_require() {
    let system = system("CREATE TABLE t (id int PRIMARY KEY)");
    assert_eq!(attempt(&system, "postgres", SslMode::Prefer, "127.0.0.1", None).await, Ok(()));
    assert_eq!(attempt(&system, "postgres", SslMode::Require, "127.0.0.1", None).await, Err(Code::TlsFailed));
    let socket = system.database.server.directory().to_str().unwrap().to_owned();
    assert_eq!(attempt(&system, "postgres", SslMode::Require, &socket, None).await, Ok(()));
}

#[tokio::test]
async fn unreadable_certificates_are_told_when_the_connection_is_configured() {
    let system = system("CREATE TABLE t (id int PRIMARY KEY)");
    let came = attempt(&system, "postgres", SslMode::VerifyFull, "localhost", Some(Path::new("/nowhere/ca.crt"))).await;
    assert_eq!(came, Err(Code::TlsFailed));
}
