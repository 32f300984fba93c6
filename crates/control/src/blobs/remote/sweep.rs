//! Which objects of the bucket does nothing need any more?
//!
//! Live is what the caller marked. An object is left alone when it is young, when somebody counted on
//! it of late, or when a release began that was not marked: that is seen in the very transaction that
//! forgets it, so a release either is seen or finds its blobs missing. The database forgets first and
//! the bucket after it; what a crash leaves between the two is a leftover. Leftovers are removed when
//! they are a day old, since another control may be putting them now. What is not named as control
//! names objects is never touched.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use nigh_bucket::{Bucket, Cause, Content};
use nigh_core::blob::{PackUse, StoredBody, plan};
use nigh_proto::{
    Digest, ReleaseId, Timestamp,
    locations::runs,
    pack::{PackHead, PackedBlob},
};

use super::{Remote, fetch::packed, located, names::begun_at};
use crate::{
    blobs::{BlobError, blocking},
    store::{ObjectRow, PlaceRow, Tx},
};

/// An object without a row, or an upload without an end, is removed at this age.
const LEFTOVER_MS: i64 = 24 * 60 * 60 * 1000;
/// An object that was put a moment ago may not be listed yet.
const LISTED_MS: i64 = 10 * 60 * 1000;

/// What is needed.
#[derive(Debug)]
pub(crate) struct Needed<'a> {
    pub(crate) digests: &'a HashSet<Digest>,
    /// The releases whose blobs are among them, and those that are over.
    pub(crate) releases: &'a BTreeSet<ReleaseId>,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Blobs that nothing needed.
    pub(crate) blobs: u64,
    /// Objects that were removed, rewritten ones and leftovers among them.
    pub(crate) objects: u64,
}

/// An object and what is live in it.
#[derive(Debug)]
struct Used {
    row: ObjectRow,
    live: Vec<PlaceRow>,
    dead: u64,
}

impl Remote {
    /// Removes what is not needed and packs what is mostly dead anew.
    pub(crate) async fn sweep(
        self: &Arc<Self>,
        needed: &Needed<'_>,
        young: Duration,
    ) -> Result<Swept, BlobError> {
        // Nothing is removed from a bucket that is not seen to be this fleet's now.
        self.check().await?;
        let young_ms = i64::try_from(young.as_millis()).unwrap_or(i64::MAX);
        let before = self.now().plus_ms(young_ms.saturating_neg());
        let mut swept = Swept::default();
        let used = self.used(needed, before).await?;
        let uses: Vec<PackUse> = used.iter().enumerate().map(pack_use).collect();
        let plan = plan(&uses);
        let dead: Vec<&Used> = plan.remove.iter().map(|&id| &used[id as usize]).collect();
        for objects in dead.chunks(100) {
            self.remove(objects, needed, before, &mut swept).await?;
        }
        for group in &plan.rewrite {
            let group: Vec<&Used> = group.iter().map(|&id| &used[id as usize]).collect();
            // A large blob is the whole of its object.
            let group: Vec<&Used> =
                group.into_iter().filter(|used| used.row.key.starts_with("packs/")).collect();
            self.rewrite(&group, needed, before, &mut swept).await?;
        }
        self.compare(&mut swept).await?;
        self.sweep_uploads().await?;
        self.abort_leftovers().await?;
        Ok(swept)
    }

    /// Every object that is old enough, and what in it is needed.
    async fn used(&self, needed: &Needed<'_>, before: Timestamp) -> Result<Vec<Used>, BlobError> {
        let mut used = Vec::new();
        for row in self.database.bucket_objects().await? {
            if row.wanted_at >= before {
                continue;
            }
            let places = self.database.places_in(&row.key).await?;
            let count = places.len() as u64;
            let is_live = |place: &PlaceRow| needed.digests.contains(&place.digest);
            let live: Vec<PlaceRow> = places.into_iter().filter(is_live).collect();
            let dead = count - live.len() as u64;
            used.push(Used { row, live, dead });
        }
        Ok(used)
    }

    /// Forgets objects without a live blob, then removes them.
    async fn remove(
        &self,
        objects: &[&Used],
        needed: &Needed<'_>,
        before: Timestamp,
        swept: &mut Swept,
    ) -> Result<(), BlobError> {
        let mut tx = self.database.begin().await?;
        if !are_all_marked(&mut tx, needed).await? {
            return Ok(());
        }
        let mut gone = Vec::new();
        for used in objects {
            if tx.is_unwanted(&used.row.key, before).await? {
                tx.forget_object(&used.row.key).await?;
                gone.push(used.row.key.clone());
                swept.blobs += used.dead;
            }
        }
        tx.commit().await?;
        self.bucket.remove(&gone).await?;
        swept.objects += gone.len() as u64;
        Ok(())
    }

    /// Puts what is live in a few objects into one, and removes them.
    async fn rewrite(
        self: &Arc<Self>,
        group: &[&Used],
        needed: &Needed<'_>,
        before: Timestamp,
        swept: &mut Swept,
    ) -> Result<(), BlobError> {
        let mut bodies = Vec::new();
        for used in group {
            match self.bodies(used).await? {
                Some(more) => bodies.extend(more),
                // Damage is mended first; the next sweep goes on.
                None => return self.object_is_damaged(&used.row.key).await,
            }
        }
        if bodies.is_empty() {
            return Ok(());
        }
        let head = PackHead { blobs: bodies.iter().map(|(blob, _)| *blob).collect() };
        let mut pack = head.encode();
        bodies.into_iter().for_each(|(_, body)| pack.extend_from_slice(&body));
        let key = self.put_object("packs", &Content::Bytes(pack.into()), None).await?;
        let moved = super::keep::places(&key, &head.blobs);
        if !self.moved(&key, &moved, group, needed, before).await? {
            self.forget_upload(&key).await?;
            self.bucket.remove(&[key]).await?;
            return Ok(());
        }
        let old: Vec<String> = group.iter().map(|used| used.row.key.clone()).collect();
        self.bucket.remove(&old).await?;
        swept.objects += old.len() as u64;
        swept.blobs += group.iter().map(|used| used.dead).sum::<u64>();
        Ok(())
    }

    /// The live bodies of an object, checked; `None` when one is damaged.
    async fn bodies(&self, used: &Used) -> Result<Option<Vec<(PackedBlob, Vec<u8>)>>, BlobError> {
        let mut bodies = Vec::new();
        for run in runs(used.live.iter().map(located).collect()) {
            let pack = self.fetch_run(&used.row.key, &run).await?;
            let blobs: Vec<PackedBlob> = run.blobs.iter().map(packed).collect();
            let checked = blocking(move || split(&pack, &blobs)).await;
            let Some(checked) = checked else { return Ok(None) };
            bodies.extend(checked);
        }
        Ok(Some(bodies))
    }

    /// Points the moved blobs at their new object and forgets the old ones, unless somebody has
    /// counted on one of those in the meantime.
    async fn moved(
        &self,
        key: &str,
        places: &[PlaceRow],
        group: &[&Used],
        needed: &Needed<'_>,
        before: Timestamp,
    ) -> Result<bool, BlobError> {
        let from: HashMap<Digest, &str> = group
            .iter()
            .flat_map(|used| used.live.iter().map(|place| (place.digest, &*used.row.key)))
            .collect();
        let mut tx = self.database.begin().await?;
        if !are_all_marked(&mut tx, needed).await? {
            return Ok(false);
        }
        for used in group {
            if !tx.is_unwanted(&used.row.key, before).await? {
                return Ok(false);
            }
        }
        let last = places.last().map_or(0, |place| place.start + place.stored_len);
        let row = ObjectRow { key: key.to_owned(), bytes: last, wanted_at: self.now() };
        tx.insert_object(&row).await?;
        for place in places {
            tx.move_place(from[&place.digest], place).await?;
        }
        for used in group {
            tx.forget_object(&used.row.key).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Compares what the bucket lists with what the database knows.
    async fn compare(self: &Arc<Self>, swept: &mut Swept) -> Result<(), BlobError> {
        let now = self.now();
        let known = self.database.bucket_objects().await?;
        let mut unlisted: HashMap<&str, &ObjectRow> =
            known.iter().map(|row| (&*row.key, row)).collect();
        let (mut leftovers, mut foreign, mut after) = (Vec::new(), 0, None);
        loop {
            let page = self.bucket.list(after.as_deref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for object in page {
                let is_known = unlisted.remove(&*object.key).is_some();
                match begun_at(&object.key) {
                    Some(_) if is_known => {}
                    Some(begun) if begun < now.plus_ms(-LEFTOVER_MS) => leftovers.push(object.key),
                    Some(_) => {}
                    None if Bucket::is_marker(&object.key) => {}
                    None => foreign += 1,
                }
            }
        }
        self.say_foreign(foreign);
        for object in unlisted.values() {
            if object.wanted_at < now.plus_ms(-LISTED_MS) {
                self.object_is_lost(&object.key).await?;
            }
        }
        // Asked now: what was in the list was known before it, unless nobody ever knew it.
        let mut unknown = Vec::new();
        for key in leftovers {
            if !self.database.knows_object(&key).await? {
                unknown.push(key);
            }
        }
        // Nobody puts a name twice, and who began one a day ago and goes on with it is known.
        let leftovers = unknown;
        self.bucket.remove(&leftovers).await?;
        swept.objects += leftovers.len() as u64;
        Ok(())
    }

    fn say_foreign(&self, foreign: u64) {
        let before = std::mem::replace(&mut self.standing().foreign_objects, foreign);
        if foreign > 0 && before == 0 {
            tracing::warn!(
                foreign_objects = foreign,
                "{foreign} objects in the bucket are not nigh's; they are left alone"
            );
        }
    }

    /// Ends uploads in parts of which the database knows nothing: control stopped before it did.
    async fn abort_leftovers(&self) -> Result<(), BlobError> {
        let uploads = match self.bucket.uploads().await {
            // Nothing was sent of those that the database does not know.
            Err(error) if error.cause == Cause::Unsupported => return Ok(()),
            uploads => uploads?,
        };
        let before = self.now().plus_ms(-LEFTOVER_MS);
        let is_old = |key: &str| begun_at(key).is_some_and(|begun| begun < before);
        for upload in uploads.iter().filter(|upload| is_old(&upload.key)) {
            if self.database.knows_object(&upload.key).await? {
                continue;
            }
            self.bucket.abort(&upload.key, &upload.id).await?;
        }
        Ok(())
    }
}

/// Whether no release has begun that was not marked.
async fn are_all_marked(tx: &mut Tx, needed: &Needed<'_>) -> Result<bool, BlobError> {
    let releases = tx.release_ids().await?;
    Ok(releases.iter().all(|id| needed.releases.contains(id)))
}

/// What a plan is made of; objects are called by their number in the list.
fn pack_use((number, used): (usize, &Used)) -> PackUse {
    PackUse {
        id: u32::try_from(number).unwrap_or(u32::MAX),
        file_bytes: used.row.bytes,
        live_blobs: used.live.len(),
        live_bytes: used.live.iter().map(|place| place.stored_len).sum(),
        live_raw_bytes: used.live.iter().map(|place| place.raw_len).sum(),
    }
}

/// The bodies of a pack of `blobs`, when each is what it claims to be.
fn split(pack: &[u8], blobs: &[PackedBlob]) -> Option<Vec<(PackedBlob, Vec<u8>)>> {
    let mut rest = pack.get(PackHead::head_bytes(blobs.len())..)?;
    let mut bodies = Vec::with_capacity(blobs.len());
    for blob in blobs {
        let (body, after) = rest.split_at_checked(blob.stored_len as usize)?;
        let PackedBlob { digest, coding, raw_len, .. } = *blob;
        StoredBody { digest, coding, raw_len, bytes: body.to_vec() }.into_raw().ok()?;
        bodies.push((*blob, body.to_vec()));
        rest = after;
    }
    Some(bodies)
}
