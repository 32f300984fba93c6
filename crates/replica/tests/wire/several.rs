//! Does a machine turn to another control when one is of no use?

use crate::{
    control::{Calls, Control, JOIN, Pipe, WATCH},
    machine::{Home, Machine, admit, line},
};

/// A machine that knows of two controls, and the calls to each of them.
struct Pair {
    first: Control,
    _second: Control,
    _home: Home,
    machine: Machine,
    watches: [Calls; 2],
}

impl Pair {
    /// The machine follows the first control and has the state of revision 1.
    async fn start() -> (Self, Pipe) {
        let first = Control::start().await;
        let second = Control::start_beside(&first).await;
        let mut home = Home::new(&first);
        home.url = format!("{},{}", first.url(), second.url());
        let (mut joins, mut watches) =
            (first.calls(JOIN), [first.calls(WATCH), second.calls(WATCH)]);
        let machine = home.start();
        admit(&first, joins.next().await);
        let pipe = watches[0].next().await.open(200, &[]);
        pipe.send(line(1));
        machine.wait_for(1).await;
        (Pair { first, _second: second, _home: home, machine, watches }, pipe)
    }
}

#[tokio::test]
async fn a_stream_that_ends_goes_on_at_the_next_control_with_what_is_here() {
    let (mut pair, pipe) = Pair::start().await;
    drop(pipe);
    let watch = pair.watches[1].next_soon().await;
    assert_eq!(watch.since().as_deref(), Some("1"));
    let pipe = watch.open(200, &[]);
    pipe.send(line(2));
    pair.machine.wait_for(2).await;
    drop(pipe);
    let watch = pair.watches[0].next_soon().await;
    assert_eq!(watch.since().as_deref(), Some("2"), "and from there to the first again");
}

#[tokio::test]
async fn a_control_that_is_gone_or_refuses_is_passed_over() {
    let (mut pair, pipe) = Pair::start().await;
    pair.first.stop().await;
    drop(pipe);
    pair.watches[1].next_soon().await.refuse(503, "the database is away");
    // The first one is gone: its turn passes, and the second is asked again.
    let pipe = pair.watches[1].next_soon().await.open(200, &[]);
    pipe.send(line(2));
    pair.machine.wait_for(2).await;
}

#[tokio::test]
async fn a_machine_joins_where_it_is_let_in() {
    let first = Control::start().await;
    let second = Control::start_beside(&first).await;
    let mut home = Home::new(&first);
    home.url = format!("{},{}", first.url(), second.url());
    let (mut refused, mut joins) = (first.calls(JOIN), second.calls(JOIN));
    let mut watches = second.calls(WATCH);
    let machine = home.start();
    refused.next().await.refuse(503, "the database is away");
    admit(&second, joins.next_soon().await);
    let pipe = watches.next_soon().await.open(200, &[]);
    pipe.send(line(1));
    machine.wait_for(1).await;
}
