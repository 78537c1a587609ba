//! The client that most others stand on, over TCP and TLS.

use super::*;

/// Lets psql run one statement at this door with these settings; what it said on stderr, or the session.
async fn psql(door: Door, settings: &str, environment: &[(&str, &str)]) -> Result<Session<TcpStream>, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        // With sslmode=prefer it comes again without TLS, where it was refused with.
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(Arrival::Session(mut session)) = door.open(stream, super::PEER).await {
                serve(&mut session).await;
                return *session;
            }
        }
    });
    let mut command = Command::new("psql");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", "/nowhere");
    command.envs(environment.iter().copied()).args(["-X", "-c", "LISTEN x"]);
    command.arg(format!("host=localhost hostaddr=127.0.0.1 port={port} dbname=orders connect_timeout=10 {settings}"));
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    if output.status.success() {
        return Ok(server.await.unwrap());
    }
    server.abort();
    Err(String::from_utf8(output.stderr).unwrap())
}

fn password(place: &Place) -> [(&'static str, String); 2] {
    [("PGUSER", place.key.key_id.clone()), ("PGPASSWORD", place.key.secret.expose().to_owned())]
}

async fn psql_with_password(place: &Place, door: Door, settings: &str) -> Result<Session<TcpStream>, String> {
    let environment = password(place);
    psql(door, settings, &environment.each_ref().map(|(name, value)| (*name, value.as_str()))).await
}

#[tokio::test]
async fn it_logs_in_without_tls() {
    let place = Place::new();
    for settings in ["sslmode=disable", "sslmode=prefer channel_binding=disable"] {
        let session = psql_with_password(&place, place.plain(), settings).await.unwrap();
        assert_eq!(session.agent.id.as_str(), "etl");
        assert_eq!(session.parameters.text("application_name").as_deref(), Some("psql"));
    }
}

#[tokio::test]
async fn it_binds_its_login_to_the_certificate() {
    let place = Place::new();
    let ca = place.file("ca.pem");
    let settings = format!("sslmode=verify-full sslrootcert={} channel_binding=require", ca.display());
    let session = psql_with_password(&place, place.with_tls(), &settings).await.unwrap();
    assert!(session.stream.tls().is_some());
    let refused =
        psql_with_password(&place, place.plain(), "sslmode=prefer channel_binding=require").await.unwrap_err();
    assert!(refused.contains("channel binding"), "{refused}");
    // Over TLS, and without binding: as an older client does.
    let session = psql_with_password(&place, place.with_tls(), "sslmode=require channel_binding=disable").await;
    assert_eq!(session.unwrap().agent.id.as_str(), "etl");
}

#[tokio::test]
async fn it_is_told_that_the_password_is_wrong() {
    let place = Place::new();
    let environment = [("PGUSER", place.key.key_id.as_str()), ("PGPASSWORD", "wrong")];
    let refused = psql(place.with_tls(), "sslmode=require", &environment).await.unwrap_err();
    assert!(refused.contains("FATAL:  password authentication failed for user \"AKCS"), "{refused}");
}

#[tokio::test]
async fn a_certificate_is_a_login() {
    let place = Place::new();
    let settings = |name: &str| {
        let file = |end: &str| place.file(&format!("{name}.{end}"));
        format!("sslmode=require sslcert={} sslkey={}", file("pem").display(), file("key").display())
    };
    let session = psql(place.with_tls(), &settings("etl"), &[("PGUSER", "etl")]).await.unwrap();
    assert_eq!(session.agent.id.as_str(), "etl");
    assert!(matches!(&session.credential, Credential::Certificate(id) if id.len() == 71), "{:?}", session.credential);
    // The certificate of another, of one that is no agent, and that of an authority nobody trusts.
    let refused =
        psql(place.with_tls(), &settings("other"), &[("PGUSER", "etl"), ("PGPASSWORD", "x")]).await.unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");
    let refused =
        psql(place.with_tls(), &settings("other"), &[("PGUSER", "other"), ("PGPASSWORD", "x")]).await.unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");
    let stranger = Place::new();
    let refused =
        psql(stranger.with_tls(), &settings("etl"), &[("PGUSER", "etl"), ("PGPASSWORD", "x")]).await.unwrap_err();
    assert!(refused.contains("SSL error"), "{refused}");
}
