//! Calls that lie, end early, expand without end or are no calls at all.

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use nigh_client::{Answer, Body, Call, Client, Method};
use nigh_proto::{
    Digest,
    api::{Problem, UPLOAD_LENGTH, UPLOAD_OFFSET},
    pack::{PackHead, PackedBlob, StoredCoding},
};
use nigh_tests::{
    Cdn,
    cdn::{SITE, fleet, folder, noise},
};
use serde_json::json;

fn post(path: &[&str], media_type: &'static str, bytes: impl Into<Bytes>) -> Call {
    Call::new(Method::POST, path).body(Body::Bytes { media_type, bytes: bytes.into() })
}

fn releases() -> [&'static str; 4] {
    ["v1", "sites", SITE, "releases"]
}

/// Control must refuse with this status and a problem that says why.
async fn refused(client: &Client, what: &str, call: &Call, statuses: &[u16]) -> Result<Problem> {
    let answer: Answer = client.answer(call).await.with_context(|| what.to_owned())?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(statuses.contains(&answer.status.as_u16()), "{what}: {} {text}", answer.status);
    let media_type = answer.headers.get(header::CONTENT_TYPE).context("a media type")?;
    assert_eq!(media_type, "application/problem+json", "{what}: {text}");
    let problem: Problem =
        serde_json::from_str(&text).with_context(|| format!("{what}: {text}"))?;
    assert_eq!(problem.status, answer.status.as_u16(), "{what}");
    assert!(!problem.code.is_empty() && !problem.detail.is_empty(), "{what}: {text}");
    Ok(problem)
}

fn pack(blobs: &[(Digest, StoredCoding, &[u8], usize)]) -> Vec<u8> {
    let packed = blobs.iter().map(|&(digest, coding, stored, raw_len)| PackedBlob {
        digest,
        coding,
        stored_len: stored.len() as u32,
        raw_len: raw_len as u32,
    });
    let mut bytes = PackHead { blobs: packed.collect() }.encode();
    blobs.iter().for_each(|(_, _, stored, _)| bytes.extend_from_slice(stored));
    bytes
}

/// A few bytes of zstd that claim to be small and are sixteen mebibytes.
fn bomb() -> Result<Vec<u8>> {
    // One frame without a content size: 128 blocks, each of which repeats a zero 128 KiB times.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    let blocks = 128u32;
    for block in 0..blocks {
        let is_last = u32::from(block + 1 == blocks);
        let head = (128 << 10) << 3 | 1 << 1 | is_last;
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    Ok(frame)
}

#[tokio::test]
async fn packs_that_lie_leave_nothing_behind() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let dir = folder(&[("index.html", "live")])?;
    cdn.push(dir.path()).await?;
    let client = cdn.fleet.client();
    let stored = client.status().await?.blobs_total;
    let (bytes, digest) = (&b"hello"[..], Digest::of(b"hello"));
    let identity = StoredCoding::Identity;
    let (honest, bomb) = (pack(&[(digest, identity, bytes, 5)]), bomb()?);

    for (what, body, statuses) in [
        ("not a pack", b"hello".to_vec(), &[422][..]),
        ("nothing", Vec::new(), &[422]),
        ("cut in its head", honest[..30].to_vec(), &[422]),
        ("cut in its body", honest[..honest.len() - 1].to_vec(), &[422]),
        ("longer than it says", [&honest[..], b"more"].concat(), &[422]),
        ("another digest", pack(&[(Digest::of(b"x"), identity, bytes, 5)]), &[422]),
        ("another length", pack(&[(digest, StoredCoding::Zstd, b"hell", 5)]), &[422]),
        ("expanding", pack(&[(digest, StoredCoding::Zstd, &bomb, 1 << 20)]), &[422]),
        ("a count without end", b"nighpack\x01\0\0\0\xff\xff\xff\xff".to_vec(), &[422]),
    ] {
        let call = post(&["v1", "packs"], "application/vnd.nigh.pack", body);
        let problem = refused(client, what, &call, statuses).await?;
        assert!(
            ["pack_invalid", "digest_mismatch"].contains(&&*problem.code),
            "{what}: {problem:?}"
        );
    }
    let wrong_type = post(&["v1", "packs"], "text/plain", honest.clone());
    refused(client, "a wrong content type", &wrong_type, &[400, 415, 422]).await?;
    assert_eq!(client.status().await?.blobs_total, stored, "nothing was kept");

    let answer = client.upload_pack(honest.into()).await?;
    assert_eq!(answer.stored, 1, "an honest pack is still welcome");
    assert_eq!(cdn.text("fra", "/").await?, "live");
    cdn.fleet.stop().await
}

#[tokio::test]
async fn large_blobs_that_lie_are_refused_and_may_be_sent_again() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let client = cdn.fleet.client();
    let bytes = noise(9, 3 << 20);
    let digest = Digest::of(&bytes);
    let part = |digest: &Digest, length: &str, offset: &str, bytes: &[u8]| {
        let call = Call::new(Method::PUT, &["v1", "blobs", &digest.to_string()]);
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        call.header(HeaderName::from_static(UPLOAD_LENGTH), value(length))
            .header(HeaderName::from_static(UPLOAD_OFFSET), value(offset))
            .body(Body::Bytes {
                media_type: "application/octet-stream",
                bytes: Bytes::copy_from_slice(bytes),
            })
    };
    let whole = bytes.len().to_string();

    let other = Digest::of(b"other");
    refused(client, "other bytes", &part(&other, &whole, "0", &bytes), &[422]).await?;
    refused(client, "a gap", &part(&digest, &whole, "77", &bytes), &[409]).await?;
    refused(client, "no number", &part(&digest, "many", "0", &bytes), &[400, 422]).await?;
    refused(client, "past its end", &part(&digest, "2000000", "0", &bytes), &[409, 413, 422])
        .await?;
    let endless = part(&digest, "99999999999999999", "0", &bytes[..1]);
    refused(client, "endless", &endless, &[400, 413, 422, 507]).await?;
    let no_digest = Call::new(Method::PUT, &["v1", "blobs", "abc"]).body(Body::Bytes {
        media_type: "application/octet-stream",
        bytes: Bytes::from_static(b"x"),
    });
    refused(client, "no digest", &no_digest, &[400, 404, 422]).await?;

    let sent = client.upload_part(&digest, bytes.len() as u64, 0, bytes.into()).await?;
    assert_eq!(sent, nigh_client::BlobUpload::Stored);
    cdn.fleet.stop().await
}

#[tokio::test]
async fn releases_that_lie_are_refused_before_they_are_staged() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let dir = folder(&[("index.html", "live")])?;
    let release = cdn.push(dir.path()).await?.release;
    let client = cdn.fleet.client();
    let rules = serde_json::to_value(nigh_proto::rules::RuleSet::default())?;
    let digest = Digest::of(b"live");

    for (what, body, statuses) in [
        ("garbage", "{".to_owned(), &[400, 422][..]),
        ("no object", "[]".to_owned(), &[400, 422]),
        ("deep", "[".repeat(100_000), &[400, 413, 422]),
        ("no manifest", json!({ "rules": rules }).to_string(), &[400, 422]),
        (
            "an unknown field",
            json!({ "manifest": "", "rules": rules, "x": 1 }).to_string(),
            &[400, 422],
        ),
        ("not a manifest", json!({ "manifest": "hello", "rules": rules }).to_string(), &[422]),
    ] {
        let call = post(&releases(), "application/json", body);
        let problem = refused(client, what, &call, statuses).await?;
        assert!(problem.detail.len() < 2000, "{what}: the answer repeats the question");
    }
    for path in ["../x", "/x", "a//b", "a/./b", "", "a\0b", &"a".repeat(300)] {
        let manifest = format!("nigh-manifest 1\n{digest} 4 - {path}\n");
        let body = json!({ "manifest": manifest, "rules": rules }).to_string();
        refused(client, path, &post(&releases(), "application/json", body), &[400, 422]).await?;
    }
    let wrong_type = post(&releases(), "text/plain", "{}");
    refused(client, "a wrong content type", &wrong_type, &[400, 415, 422]).await?;
    let bomb = post(&releases(), "application/json", bomb()?)
        .header(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
    refused(client, "expanding", &bomb, &[400, 413, 422]).await?;

    a_lie_about_size(&cdn, "index.html").await?;
    assert_eq!(cdn.active().await?.to_string(), release);
    assert_eq!(cdn.text("fra", "/").await?, "live");
    cdn.fleet.stop().await
}

/// Every blob is there, and the manifest says that one of them is longer than it is.
async fn a_lie_about_size(cdn: &Cdn, path: &str) -> Result<()> {
    let client = cdn.fleet.client();
    let lie = nigh_proto::Manifest::new(vec![nigh_proto::Entry {
        path: path.parse()?,
        digest: Digest::of(b"live"),
        size_bytes: 5,
        content_type: None,
    }])?;
    let new = json!({ "manifest": lie.encode(), "rules": nigh_proto::rules::RuleSet::default() });
    let call = post(&releases(), "application/json", new.to_string());
    let answer = client.answer(&call).await?;
    if answer.status.is_success() {
        let begun: serde_json::Value = serde_json::from_slice(&answer.body)?;
        let id = begun["release"]["id"].as_str().context("an id")?.to_owned();
        let path = [&releases()[..], &[&id, "finalize"]].concat();
        refused(client, "a size that is a lie", &post(&path, "application/json", "{}"), &[422])
            .await?;
    } else {
        assert_eq!(answer.status.as_u16(), 422);
    }
    Ok(())
}

#[tokio::test]
async fn calls_that_are_none_are_answered_as_problems() -> Result<()> {
    let cdn = Cdn::of(fleet(1)).await?;
    let client = cdn.fleet.client();
    for (method, path, statuses) in [
        (Method::GET, &["v1", "nothing"][..], &[404][..]),
        (Method::GET, &["v1", "sites", "Not A Name"], &[400, 404, 422]),
        (Method::PATCH, &["v1", "sites"], &[405]),
        (Method::GET, &["v1", "sites", SITE, "releases", "../../x"], &[400, 404, 422]),
        (Method::GET, &["v1", "machines", "..", "drain"], &[404, 405]),
    ] {
        refused(client, &path.join("/"), &Call::new(method, path), statuses).await?;
    }
    cdn.fleet.stop().await
}
