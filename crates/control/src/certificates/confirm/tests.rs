use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::Message,
    rr::{RData, Record, rdata::TXT},
};
use nigh_proto::{MachineId, report::AWAY_AFTER_MS};
use tokio::net::UdpSocket;

use super::*;
use crate::{
    app::fixture::Fixture,
    fleet::fixture::{machine, report},
    random::random,
};

/// A DNS server that answers TXT questions with what is put into it.
struct Server {
    port: u16,
    texts: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let texts: Arc<Mutex<Vec<String>>> = Arc::default();
        let shown = Arc::clone(&texts);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
                answer.add_queries(question.queries.iter().cloned());
                for text in shown.lock().unwrap().iter() {
                    let owner = question.queries[0].name().clone();
                    let data = RData::TXT(TXT::new(vec![text.clone()]));
                    answer.add_answer(Record::from_rdata(owner, 1, data));
                }
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        Server { port, texts, task }
    }

    fn show(&self, text: &str) {
        self.texts.lock().unwrap().push(text.to_owned());
    }
}

/// Control with these DNS servers, of which it has heard nothing for a while.
async fn control(servers: &[(&str, u16)]) -> Fixture {
    let fixture = Fixture::new().await;
    let mut tx = fixture.app.store().begin().await.unwrap();
    for (name, port) in servers {
        let mut row =
            MachineRow { id: MachineId::new(1, random()), role: MachineRole::Dns, ..machine(name) };
        row.about.role = MachineRole::Dns;
        row.about.ipv4 = vec![Ipv4Addr::LOCALHOST];
        row.about.ports.dns = *port;
        tx.put_machine(&row).await.unwrap();
    }
    tx.raise_revision().await.unwrap();
    tx.commit().await.unwrap();
    fixture.app.publish().await.unwrap();
    fixture.hand.advance(Duration::from_millis(AWAY_AFTER_MS + 1));
    fixture
}

fn challenge() -> ChallengeRow {
    ChallengeRow {
        id: "site:docs".to_owned(),
        kind: ChallengeKind::Dns,
        name: "_acme-challenge.nigh.test".parse().unwrap(),
        token: String::new(),
        value: "answer".to_owned(),
    }
}

async fn look(fixture: &Fixture) -> Result<(), String> {
    by_dns(&fixture.app, &[&challenge()], 7).await
}

#[tokio::test]
async fn a_server_that_answers_from_an_old_state_is_waited_for_and_a_dead_one_is_not() {
    let (fresh, stale) = (Server::start().await, Server::start().await);
    let fixture = control(&[("ns1", fresh.port), ("ns2", stale.port)]).await;
    fresh.show("another answer");
    fresh.show("answer");
    stale.show("yesterday's answer");
    let why = look(&fixture).await.unwrap_err();
    assert!(why.contains("ns2") && why.contains("_acme-challenge.nigh.test"), "{why}");
    stale.show("answer");
    assert_eq!(look(&fixture).await, Ok(()));
    stale.texts.lock().unwrap().clear();
    stale.task.abort();
    // The socket is closed once the task is gone.
    let _ = stale.task.await;
    assert_eq!(look(&fixture).await, Ok(()), "a dead one shows nobody anything");
    fresh.task.abort();
    let _ = fresh.task.await;
    assert!(look(&fixture).await.unwrap_err().contains("no DNS server"));
}

#[tokio::test]
async fn a_server_that_reports_must_have_the_state_whatever_it_answers() {
    let server = Server::start().await;
    server.show("answer");
    let fixture = control(&[("ns1", server.port)]).await;
    let app = &fixture.app;
    app.statuses().connected(&"ns1".parse().unwrap(), app.instant());
    let mut said = report("ns1", &[]);
    said.about.role = MachineRole::Dns;
    said.revision = Some(nigh_proto::state::Revision(6));
    app.statuses().reported(said.clone(), app.instant(), app.now());
    assert!(look(&fixture).await.unwrap_err().contains("newest state"));
    said.revision = Some(nigh_proto::state::Revision(7));
    app.statuses().reported(said, app.instant(), app.now());
    assert_eq!(look(&fixture).await, Ok(()));
}

#[tokio::test]
async fn a_server_that_reports_and_cannot_be_reached_is_waited_for_until_it_is_away() {
    let (fresh, walled) = (Server::start().await, Server::start().await);
    fresh.show("answer");
    let fixture = control(&[("ns1", fresh.port), ("ns2", walled.port)]).await;
    walled.task.abort();
    let _ = walled.task.await;
    let app = &fixture.app;
    app.statuses().connected(&"ns2".parse().unwrap(), app.instant());
    let mut said = report("ns2", &[]);
    said.about.role = MachineRole::Dns;
    said.revision = Some(nigh_proto::state::Revision(7));
    app.statuses().reported(said, app.instant(), app.now());
    let why = look(&fixture).await.unwrap_err();
    assert!(why.contains("the DNS server ns2"), "resolvers may reach it, and the CA: {why}");
    fixture.hand.advance(Duration::from_millis(AWAY_AFTER_MS + 1));
    assert_eq!(look(&fixture).await, Ok(()));
}
