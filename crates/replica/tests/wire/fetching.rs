//! How does a machine get blobs, and what does it take for one?

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use nigh_proto::{Digest, pack::PackHead};
use nigh_replica::{ByteStream, FetchError};
use tokio::time::Instant;

use crate::{
    clock::FastClock,
    control::{BLOBS, Calls, Control, PACKS, Pipe},
    machine::{Home, Machine, following},
};

/// Answers a call to fetch a pack of one blob with a body that the test writes.
async fn open_pack(machine: &Machine, packs: &mut Calls) -> (ByteStream, Pipe) {
    let digests = [Digest::of(b"hello")];
    let fetching = machine.replica.fetch_pack(&digests);
    let answering = async { packs.next().await.open(200, &[]) };
    let (stream, pipe) = tokio::join!(fetching, answering);
    (stream.unwrap(), pipe)
}

async fn whole(mut stream: ByteStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

#[tokio::test]
async fn nothing_is_fetched_before_the_machine_has_joined() {
    let control = Control::start().await;
    let machine = Home::new(&control).start();
    let error = machine.replica.fetch_pack(&[Digest::of(b"")]).await.unwrap_err();
    assert!(matches!(error, FetchError::NotJoined), "{error:?}");
}

#[tokio::test]
async fn a_pack_is_asked_for_by_digest_and_comes_as_it_is() {
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut packs = control.calls(PACKS);
    let digests = [Digest::of(b"one"), Digest::of(b"two")];
    let (stream, ()) = tokio::join!(machine.replica.fetch_pack(&digests), async {
        let call = packs.next().await;
        assert!(call.has_certificate);
        let wanted: serde_json::Value = call.json();
        assert_eq!(wanted, serde_json::json!({ "digests": digests }));
        call.answer(200, "a pack");
    });
    assert_eq!(whole(stream.unwrap()).await, b"a pack");
}

#[tokio::test]
async fn a_pack_that_says_it_is_longer_than_any_is_refused_before_it_comes() {
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut packs = control.calls(PACKS);
    let digests = [Digest::of(b"hello")];
    let length = PackHead::head_bytes(1) as u64 + PackHead::MAX_BODIES_BYTES + 1;
    let (stream, _pipe) = tokio::join!(machine.replica.fetch_pack(&digests), async {
        packs.next().await.open(200, &[("content-length", length.to_string())])
    });
    let error = stream.unwrap_err();
    assert!(error.to_string().contains(&length.to_string()), "{error}");
}

#[tokio::test]
async fn a_pack_that_does_not_end_is_cut_off() {
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut packs = control.calls(PACKS);
    let (mut stream, pipe) = open_pack(&machine, &mut packs).await;
    let piece = Bytes::from(vec![7; 1 << 20]);
    let bound = PackHead::head_bytes(1) as u64 + PackHead::MAX_BODIES_BYTES;
    for _ in 0..=bound / piece.len() as u64 {
        pipe.send(piece.clone());
    }
    let mut bytes = 0;
    let error = loop {
        match stream.next().await.expect("an error comes before the end") {
            Ok(piece) => bytes += piece.len() as u64,
            Err(error) => break error,
        }
    };
    assert!(bytes <= bound, "{bytes}");
    assert!(error.to_string().contains("more than"), "{error}");
    assert!(stream.next().await.is_none());
    pipe.closed().await;
}

#[tokio::test]
async fn a_stream_that_stands_still_fails() {
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut packs = control.calls(PACKS);
    let (mut stream, pipe) = open_pack(&machine, &mut packs).await;
    pipe.send("some of it");
    assert_eq!(stream.next().await.unwrap().unwrap(), "some of it");
    let _clock = FastClock::start();
    let began = Instant::now();
    stream.next().await.unwrap().unwrap_err();
    assert!(began.elapsed() <= Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_stream_that_is_read_slowly_does_not_fail() {
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut packs = control.calls(PACKS);
    let (mut stream, pipe) = open_pack(&machine, &mut packs).await;
    for _ in 0..3 {
        pipe.send("a piece");
        assert_eq!(stream.next().await.unwrap().unwrap(), "a piece");
        // As long as a disk with a full queue may take.
        let _clock = FastClock::start();
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    drop(pipe);
    assert_eq!(whole(stream).await, b"");
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_an_error_and_not_an_end() {
    let mut control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut packs = control.calls(PACKS);
    let (mut stream, pipe) = open_pack(&machine, &mut packs).await;
    pipe.send("some of it");
    assert_eq!(stream.next().await.unwrap().unwrap(), "some of it");
    pipe.fail();
    stream.next().await.unwrap().unwrap_err();

    let (mut stream, _pipe) = open_pack(&machine, &mut packs).await;
    control.stop().await;
    stream.next().await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_blob_goes_on_where_it_broke_off_and_other_bytes_are_refused() {
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut blobs = control.calls(BLOBS);
    let digest = Digest::of(b"0123456789");
    let range = |first: u64| [("content-range", format!("bytes {first}-9/10"))];
    for (offset, status, headers, body) in [
        (0, 200, &[][..], Some("0123456789")),
        (4, 206, &range(4)[..], Some("456789")),
        (4, 200, &[][..], None),
        (4, 206, &range(3)[..], None),
        (4, 206, &[][..], None),
        (0, 206, &range(4)[..], None),
        (0, 204, &[][..], None),
        (4, 416, &[][..], None),
        (4, 503, &[][..], None),
    ] {
        let (fetched, ()) = tokio::join!(machine.replica.fetch_blob(&digest, offset), async {
            let call = blobs.next().await;
            let wanted = (offset > 0).then(|| format!("bytes={offset}-"));
            assert_eq!(call.header("range"), wanted.as_deref());
            call.answer_with(status, headers, body.unwrap_or("whatever"));
        });
        match (fetched, body) {
            (Ok(stream), Some(body)) => assert_eq!(whole(stream).await, body.as_bytes()),
            (Err(FetchError::Refused { status: told, .. }), None) => assert_eq!(told, status),
            (fetched, _) => panic!("{offset} {status}: {fetched:?}"),
        }
    }
}

#[tokio::test]
async fn a_blob_that_control_does_not_have_is_said_to_be_unknown() {
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut blobs = control.calls(BLOBS);
    let digest = Digest::of(b"gone");
    let (fetched, ()) = tokio::join!(machine.replica.fetch_blob(&digest, 0), async {
        blobs.next().await.refuse(404, "no such blob");
    });
    let error = fetched.unwrap_err();
    assert!(matches!(error, FetchError::Unknown { digest: told } if told == digest), "{error:?}");
}

#[tokio::test]
async fn a_fetch_that_is_never_answered_is_given_up() {
    let control = Control::start().await;
    let (_home, machine, _watches, _pipe) = following(&control, 5).await;
    let mut blobs = control.calls(BLOBS);
    let digest = Digest::of(b"slow");
    let _clock = FastClock::start();
    let fetching = machine.replica.fetch_blob(&digest, 0);
    let (fetched, _call) = tokio::join!(fetching, blobs.next());
    assert!(matches!(fetched, Err(FetchError::Unreachable { .. })), "{fetched:?}");
}
