//! tokio-postgres: typed, prepared, and pipelined by itself whenever two futures run at once.

use std::future::poll_fn;
use std::pin::pin;

use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Error, NoTls, SimpleQueryMessage};

use super::{ALLOWED, NO_RULE, differences, site};
use crate::support::driver::Door;
use crate::support::postgres::{APP, cluster};

struct Session {
    client: Client,
    /// What came without being asked for: `notice: text` and `channel: payload`.
    told: UnboundedReceiver<String>,
}

impl Session {
    async fn connect(door: &Door) -> Self {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(door.port).user(&door.user).password(&door.password).dbname(&door.database);
        let (client, mut connection) = config.connect(NoTls).await.unwrap();
        let (tell, told) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                let text = match message {
                    AsyncMessage::Notice(notice) => format!("notice: {}", notice.message()),
                    AsyncMessage::Notification(it) => format!("{}: {}", it.channel(), it.payload()),
                    other => format!("{other:?}"),
                };
                // Nobody may be listening any more.
                drop(tell.send(text));
            }
        });
        Self { client, told }
    }
}

fn failure(error: &Error) -> Value {
    let Some(error) = error.as_db_error() else { return json!(error.to_string()) };
    json!({"code": error.code().code(), "message": error.message(), "detail": error.detail(), "hint": error.hint()})
}

async fn number(client: &Client, text: &str) -> i64 {
    client.query_one(text, &[]).await.unwrap().get(0)
}

async fn all(door: &Door) -> Value {
    json!({
        "prepared": prepared(door).await,
        "pipelined": pipelined(door).await,
        "transactions": transactions(door).await,
        "portals": portals(door).await,
        "copies": copies(door).await,
        "copies_in_binary": copies_in_binary(door).await,
        "listens": listens(door).await,
        "cancelled": cancelled(door).await,
        "simple": simple(door).await,
    })
}

async fn prepared(door: &Door) -> Value {
    let session = Session::connect(door).await;
    let statement = session.client.prepare_typed("SELECT $1 + 1, $2", &[Type::INT8, Type::TEXT]).await.unwrap();
    let mut seen = Vec::new();
    for index in 0..20_i64 {
        let row = session
            .client
            .query_one(&statement, &[&index, &"x".repeat(usize::try_from(index).unwrap())])
            .await
            .unwrap();
        seen.push(json!([row.get::<_, i64>(0), row.get::<_, String>(1)]));
    }
    drop(statement);
    let bad = session.client.prepare("SELECT * FROM nowhere").await.unwrap_err();
    json!([seen, failure(&bad), number(&session.client, "SELECT count(*) FROM pg_prepared_statements").await])
}

/// A hundred statements on their way at once; those that fail take no other with them.
async fn pipelined(door: &Door) -> Value {
    let session = Session::connect(door).await;
    let client = &session.client;
    client.batch_execute("CREATE TABLE piped (i int8 PRIMARY KEY)").await.unwrap();
    let insert = client.prepare("INSERT INTO piped VALUES ($1)").await.unwrap();
    let rounds = join_all((0..100_i64).map(|index| {
        let insert = &insert;
        async move { client.execute(insert, &[&(index % 60)]).await.map_err(|error| failure(&error)) }
    }));
    let results = rounds.await;
    let failed: Vec<&Value> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    json!([failed.len(), failed.first(), number(client, "SELECT sum(i)::int8 FROM piped").await])
}

async fn transactions(door: &Door) -> Value {
    let mut session = Session::connect(door).await;
    session.client.batch_execute("CREATE TABLE kept (i int8 PRIMARY KEY)").await.unwrap();
    let mut transaction = session.client.transaction().await.unwrap();
    transaction.execute("INSERT INTO kept VALUES (1)", &[]).await.unwrap();
    let inner = transaction.transaction().await.unwrap();
    let bad = failure(&inner.execute("INSERT INTO kept VALUES (1)", &[]).await.unwrap_err());
    let aborted = failure(&inner.query("SELECT 1", &[]).await.unwrap_err());
    inner.rollback().await.unwrap();
    transaction.execute("INSERT INTO kept VALUES (2)", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    // Dropped without a word: rolled back in the background, before whatever comes next.
    session.client.transaction().await.unwrap().execute("INSERT INTO kept VALUES (3)", &[]).await.unwrap();
    json!([bad, aborted, number(&session.client, "SELECT sum(i)::int8 FROM kept").await])
}

/// Portals with a row limit, two of them open at once.
async fn portals(door: &Door) -> Value {
    let mut session = Session::connect(door).await;
    let transaction = session.client.transaction().await.unwrap();
    let one = transaction.bind("SELECT generate_series(1::int8, 10)", &[]).await.unwrap();
    let other = transaction.bind("SELECT generate_series(100::int8, 110)", &[]).await.unwrap();
    let mut seen = Vec::new();
    for (portal, limit) in [(&one, 3), (&other, 4), (&one, 2), (&other, 0), (&one, 0), (&one, 5)] {
        let rows = transaction.query_portal(portal, limit).await.unwrap();
        seen.push(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>());
    }
    transaction.rollback().await.unwrap();
    json!(seen)
}

async fn copies(door: &Door) -> Value {
    let session = Session::connect(door).await;
    let client = &session.client;
    client.batch_execute("CREATE TABLE copied (i int8, t text)").await.unwrap();
    let mut sink = pin!(client.copy_in("COPY copied FROM STDIN").await.unwrap());
    for index in 0..5_000 {
        sink.feed(bytes::Bytes::from(format!("{index}\tline\n"))).await.unwrap();
    }
    let count = sink.finish().await.unwrap();
    // Dropped half way: CopyFail.
    {
        let mut sink = pin!(client.copy_in::<_, bytes::Bytes>("COPY copied FROM STDIN").await.unwrap());
        sink.send(bytes::Bytes::from_static(b"1\tnever\n")).await.unwrap();
    }
    let mut bad = pin!(client.copy_in("COPY copied FROM STDIN").await.unwrap());
    bad.send(bytes::Bytes::from_static(b"no\tnumber\n")).await.unwrap();
    let bad = failure(&bad.finish().await.unwrap_err());
    let out: Vec<bytes::Bytes> = client.copy_out("COPY copied TO STDOUT").await.unwrap().try_collect().await.unwrap();
    let length: usize = out.iter().map(bytes::Bytes::len).sum();
    json!([count, bad, length, number(client, "SELECT count(*) FROM copied").await])
}

async fn copies_in_binary(door: &Door) -> Value {
    let session = Session::connect(door).await;
    let client = &session.client;
    client.batch_execute("CREATE TABLE binary_copied (i int8, t text)").await.unwrap();
    let types = [Type::INT8, Type::TEXT];
    let sink = client.copy_in("COPY binary_copied FROM STDIN BINARY").await.unwrap();
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for index in 0..1_000_i64 {
        writer.as_mut().write(&[&index, &"ü"]).await.unwrap();
    }
    let count = writer.finish().await.unwrap();
    let stream = client.copy_out("COPY binary_copied TO STDOUT BINARY").await.unwrap();
    let rows: Vec<_> = BinaryCopyOutStream::new(stream, &types).collect().await;
    let sum: i64 = rows.iter().map(|row| row.as_ref().unwrap().get::<i64>(0)).sum();
    json!([count, rows.len(), sum])
}

async fn listens(door: &Door) -> Value {
    let (mut session, other) = (Session::connect(door).await, Session::connect(door).await);
    session.client.batch_execute("LISTEN news").await.unwrap();
    other.client.batch_execute("NOTIFY news, 'first'").await.unwrap();
    session.client.batch_execute("DO $$BEGIN RAISE NOTICE 'said'; END$$").await.unwrap();
    let mut told = [session.told.recv().await.unwrap(), session.told.recv().await.unwrap()];
    told.sort();
    json!(told)
}

async fn cancelled(door: &Door) -> Value {
    let (session, other) = (Session::connect(door).await, Session::connect(door).await);
    let token = session.client.cancel_token();
    let sleeping = session.client.query("SELECT /* tokio cancels */ pg_sleep(20)", &[]);
    let cancel = async {
        let text =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                    AND state = 'active' AND query LIKE '%/* tokio cancels */%'";
        while number(&other.client, text).await == 0 {}
        token.cancel_query(NoTls).await.unwrap();
    };
    let (seen, ()) = tokio::join!(sleeping, cancel);
    let error = seen.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    json!([failure(&error), number(&session.client, "SELECT 7::int8").await])
}

async fn simple(door: &Door) -> Value {
    let session = Session::connect(door).await;
    let messages =
        session.client.simple_query("SELECT 1; CREATE TABLE s (i int); ; INSERT INTO s VALUES (1), (2)").await.unwrap();
    let seen: Vec<String> = messages
        .iter()
        .map(|message| match message {
            SimpleQueryMessage::Row(row) => format!("row {:?}", row.get(0)),
            SimpleQueryMessage::CommandComplete(count) => format!("done {count}"),
            SimpleQueryMessage::RowDescription(columns) => format!("columns {}", columns.len()),
            _ => "other".to_owned(),
        })
        .collect();
    let bad = session
        .client
        .simple_query("INSERT INTO s VALUES (3); SELECT 1/0; INSERT INTO s VALUES (4)")
        .await
        .unwrap_err();
    json!([seen, failure(&bad), number(&session.client, "SELECT count(*) FROM s").await])
}

fn run(door: &Door) -> Value {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(all(door))
}

#[track_caller]
fn is_transparent(rules: &str) {
    let (alone, behind) = (cluster().database("alone"), cluster().database("behind"));
    let site = site(&behind, APP, rules);
    let direct = run(&Door::direct(&alone, APP));
    let through = run(&Door::through(&site, "bot", &behind));
    let differences = differences(&direct, &through);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    site.verify();
}

#[test]
fn it_runs_its_scenarios() {
    let seen = run(&Door::direct(&cluster().database("alone"), APP));
    assert_eq!(seen["listens"], json!(["news: first", "notice: said"]), "{seen}");
}

#[test]
fn it_sees_the_same() {
    is_transparent(NO_RULE);
}

#[test]
fn it_sees_the_same_with_every_statement_on_disk_first() {
    is_transparent(ALLOWED);
}
