//! What a visitor asks for, and what a release answers.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, header};
use nigh_proto::{
    Digest, Entry, Manifest, ReleaseId,
    rules::{HeaderBlock, Hsts, HtmlMode, NotFound, Redirect, RuleSet},
    variants::{ContentCoding, Variant, VariantIndex},
};
use proptest::prelude::*;

use super::*;
use crate::{
    http::BadPath,
    rules::{RuleFiles, View, fields::REVALIDATE, parse},
};

fn manifest(paths: &[&str]) -> Manifest {
    let entry = |path: &&str| Entry {
        path: path.parse().unwrap(),
        digest: Digest::of(path.as_bytes()),
        size_bytes: 1000,
        content_type: None,
    };
    Manifest::new(paths.iter().map(entry).collect()).unwrap()
}

fn rules(redirects: &str, headers: &str) -> RuleSet {
    let files =
        RuleFiles { redirects: Some(redirects), headers: Some(headers), ..RuleFiles::default() };
    let parsed = parse(&files, Some(nigh_proto::rules::Dialect::Nigh));
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    parsed.rules
}

fn release(paths: &[&str], rules: &RuleSet) -> Release {
    let id = ReleaseId::new(1, [1; 10]);
    Release::build(id, &manifest(paths), rules, &VariantIndex::default())
}

fn view<'a>(path: &'a str, headers: &'a HeaderMap) -> View<'a> {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    View { path, query, headers, host: "a.test", is_https: true, country: None }
}

/// `200 file`, `308 > location`, `404 -`, or `refused`.
fn shown(release: &Release, path: &str, fields: &[(HeaderName, &str)]) -> String {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, value.parse().unwrap());
    }
    match release.resolve(&view(path, &headers)) {
        Resolution::File(served) => format!("{} {}", served.status, served.file.path()),
        Resolution::Redirect(moved) => {
            format!("{} > {}", moved.status, moved.location.to_str().unwrap())
        }
        Resolution::Empty(empty) => format!("{} -", empty.status),
        Resolution::Refused(_) => "refused".into(),
    }
}

fn fields(release: &Release, path: &str) -> Arc<FieldSet> {
    let headers = HeaderMap::new();
    match release.resolve(&view(path, &headers)) {
        Resolution::File(served) => served.fields,
        Resolution::Redirect(moved) => moved.fields,
        Resolution::Empty(empty) => empty.fields,
        Resolution::Refused(bad) => panic!("{bad}"),
    }
}

const SITE: [&str; 8] = [
    "index.html",
    "about.html",
    "docs/index.html",
    "docs/404.html",
    "404.html",
    "app.js",
    "a b/ü.html",
    "_redirects",
];

#[test]
fn files_pages_and_what_is_missing() {
    let release = release(&SITE, &RuleSet::default());
    for (path, answer) in [
        ("/", "200 index.html"),
        ("/?x=1", "200 index.html"),
        ("/app.js", "200 app.js"),
        ("/about", "200 about.html"),
        ("/about.html?x=1", "308 > /about?x=1"),
        ("/docs?a=b&c=%20", "308 > /docs/?a=b&c=%20"),
        ("/docs/", "200 docs/index.html"),
        ("/a%20b/%C3%BC", "200 a b/ü.html"),
        ("/a%20b/%C3%BC.html", "308 > /a%20b/%C3%BC"),
        ("/nothing", "404 404.html"),
        ("/docs/nothing/deep", "404 docs/404.html"),
        ("/docsx/nothing", "404 404.html"),
        ("/_redirects", "404 404.html"),
        ("//about", "404 404.html"),
        ("/docs/../app.js", "refused"),
        ("/docs%2f", "refused"),
        ("/%2e%2e/etc/passwd", "refused"),
    ] {
        assert_eq!(shown(&release, path, &[]), answer, "{path}");
    }
    assert_eq!(release.len(), SITE.len() - 1);
    let headers = HeaderMap::new();
    let refused = release.resolve(&view("/a%00", &headers));
    assert!(matches!(refused, Resolution::Refused(BadPath::Forbidden)));
}

#[test]
fn an_application_gets_its_page_for_navigations_only() {
    let spa = RuleSet { not_found: NotFound::Spa, ..RuleSet::default() };
    let release = release(&SITE, &spa);
    let mode = HeaderName::from_static("sec-fetch-mode");
    let html = (header::ACCEPT, "text/html,application/xhtml+xml;q=0.9");
    for (path, fields, answer) in [
        ("/users/42", vec![(mode.clone(), "navigate")], "200 index.html"),
        ("/users/42", vec![html.clone()], "200 index.html"),
        ("/users/42", vec![(mode.clone(), "cors"), html.clone()], "404 -"),
        ("/users/42", vec![(header::ACCEPT, "*/*")], "404 -"),
        ("/users/42", vec![], "404 -"),
        ("/missing.js", vec![(mode.clone(), "navigate")], "404 -"),
        ("/favicon.ico", vec![html], "404 -"),
        ("/app.js", vec![], "200 app.js"),
    ] {
        assert_eq!(shown(&release, path, &fields), answer, "{path} {fields:?}");
    }
    let plain = RuleSet { not_found: NotFound::None, ..RuleSet::default() };
    assert_eq!(shown(&self::release(&SITE, &plain), "/nothing", &[]), "404 -");
}

#[test]
fn rules_are_asked_before_clean_urls_and_yield_to_files() {
    let rules = rules(
        "/about /elsewhere 301\n/app.js /forced.js 302!\n/old/* /docs/:splat 301\n/app/* /about 200\n\
         /gone /docs/ 410\n/empty /none.html 451\n/lost/* /none.html 200\n/x/:y https://x.test/:y?z=1 307\n",
        "",
    );
    let release = release(&SITE, &rules);
    for (path, answer) in [
        ("/about", "200 about.html"),
        ("/about.html", "308 > /about"),
        ("/app.js", "302 > /forced.js"),
        ("/old/a%20b?q=1", "301 > /docs/a%20b?q=1"),
        ("/old//evil.test", "301 > /docs//evil.test"),
        ("/app/anything", "200 about.html"),
        ("/gone", "410 docs/index.html"),
        ("/empty", "451 -"),
        ("/lost/x", "404 404.html"),
        ("/x/1?q=2", "307 > https://x.test/1?z=1"),
    ] {
        assert_eq!(shown(&release, path, &[]), answer, "{path}");
    }
}

#[test]
fn caching_suits_the_answer_and_not_only_the_path() {
    let rules = rules(
        "/old /app.js 301\n/tmp /app.js 302\n/de /app.js 302 Country=de\n",
        "/*\n  Cache-Control: public, max-age=9, immutable\n  Content-Type: text/x-odd\n  X-A: 1\n",
    );
    let release = release(&SITE, &rules);
    for (path, caching, content_type) in [
        ("/app.js", "public, max-age=9, immutable", true),
        ("/about.html", "public, max-age=3600", false),
        ("/old", "public, max-age=3600", false),
        ("/tmp", REVALIDATE, false),
        ("/nothing", "no-store", false),
    ] {
        let fields = fields(&release, path);
        assert_eq!(fields.get(&header::CACHE_CONTROL).unwrap(), caching, "{path}");
        assert_eq!(fields.get(&HeaderName::from_static("x-a")).unwrap(), "1", "{path}");
        assert_eq!(fields.content_type().is_some(), content_type, "{path}");
    }
    let plain = self::release(&SITE, &RuleSet::default());
    let fields = fields(&plain, "/app.js");
    let all: Vec<_> = fields.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
    assert_eq!(
        all,
        [format!("cache-control: {REVALIDATE}"), "x-content-type-options: nosniff".into()]
    );
}

#[test]
fn header_rules_are_for_the_url_and_not_for_the_file() {
    let rules = rules(
        "/app/* /about 200\n",
        "/docs/\n  X-A: folder\n/about\n  X-A: about\n/app/*\n  X-A: app\n/:x/*\n  X-B: :x\nhttps://b.test/app.js\n  X-A: other host\n",
    );
    let release = release(&SITE, &rules);
    let value = |path: &str, name: &str| {
        let name: HeaderName = name.parse().unwrap();
        fields(&release, path).get(&name).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(value("/docs/", "x-a").as_deref(), Some("folder"));
    assert_eq!(value("/docs/", "x-b").as_deref(), Some("docs"));
    assert_eq!(value("/about", "x-a").as_deref(), Some("about"));
    assert_eq!(value("/app/1", "x-a").as_deref(), Some("app"));
    assert_eq!(value("/app/1", "x-b").as_deref(), Some("app"));
    assert_eq!(value("/app.js", "x-a"), None);
}

#[test]
fn what_was_matched_when_built_is_what_is_matched_when_asked() {
    let headers = "/*\n X-A: 1\n/docs/*\n X-A: 2\n Link: </a>\n/:x/\n Link: </b>\n/*.js\n ! X-A\n";
    let with_host = format!("{headers}https://never.test/*\n X-Z: 1\n");
    // A block for a host turns matching at build time off, so these two decide in different ways.
    let (built, asked) =
        (release(&SITE, &rules("", headers)), release(&SITE, &rules("", &with_host)));
    for path in ["/", "/about", "/docs/", "/app.js", "/a%20b/%C3%BC"] {
        assert_eq!(fields(&built, path), fields(&asked, path), "{path}");
    }
}

#[test]
fn files_of_older_pages_are_kept_and_pages_never() {
    let rules = rules("", "/static/*\n  Cache-Control: public, max-age=31536000, immutable\n");
    let release = release(
        &["static/a.css", "static/p.html", "x/app.3f2a9c1b.js", "index-3f2a9c1b.html", "a.js"],
        &rules,
    );
    for (path, kept) in [
        ("static/a.css", true),
        ("static/p.html", false),
        ("x/app.3f2a9c1b.js", true),
        ("index-3f2a9c1b.html", false),
        ("a.js", false),
        ("none.js", false),
    ] {
        assert_eq!(release.is_immutable(path), kept, "{path}");
    }
}

#[test]
fn variants_arrive_later_and_are_shared_by_content() {
    let plain = release(&SITE, &RuleSet::default());
    assert!(plain.file("app.js").unwrap().variants().is_empty());
    assert!(plain.file("app.js").unwrap().is_negotiable());
    let variant = |coding, size_bytes| Variant {
        of: Digest::of(b"app.js"),
        coding,
        digest: Digest::of(&[size_bytes as u8]),
        size_bytes,
    };
    let index = VariantIndex::new(vec![
        variant(ContentCoding::Br, 300),
        variant(ContentCoding::Gzip, 1000),
    ]);
    let release = plain.with_variants(&index);
    let file = release.file("app.js").unwrap();
    assert_eq!(file.variants().len(), 2);
    // One that saves nothing is not offered.
    let forms: Vec<_> = file.forms().map(|form| form.coding).collect();
    assert_eq!(forms, [ContentCoding::Br]);
    assert!(release.file("index.html").unwrap().variants().is_empty());
    assert_eq!(release.id(), plain.id());
}

#[test]
fn a_manifest_may_name_the_type_and_rules_may_overrule_it() {
    let entries = vec![Entry {
        path: "data.bin".parse().unwrap(),
        digest: Digest::of(b""),
        size_bytes: 0,
        content_type: Some("application/x-own".into()),
    }];
    let manifest = Manifest::new(entries).unwrap();
    let block = HeaderBlock {
        path: "/data.bin".into(),
        set: vec![("Content-Type".into(), "text/plain".into())],
        ..HeaderBlock::default()
    };
    let headers = HeaderMap::new();
    for (blocks, expected) in [(vec![], "application/x-own"), (vec![block], "text/plain")] {
        let rules = RuleSet { headers: blocks, ..RuleSet::default() };
        let id = ReleaseId::new(1, [1; 10]);
        let release = Release::build(id, &manifest, &rules, &VariantIndex::default());
        let Resolution::File(served) = release.resolve(&view("/data.bin", &headers)) else {
            panic!("the file is there")
        };
        assert_eq!(served.content_type(), expected);
        assert!(served.fields.iter().all(|(name, _)| name != header::CONTENT_TYPE));
    }
}

#[test]
fn hsts_is_written_as_in_rfc_6797_section_6_1() {
    let hsts = Hsts { max_age_s: 31_536_000, include_subdomains: true, preload: true };
    let release = release(&SITE, &RuleSet { hsts: Some(hsts), ..RuleSet::default() });
    assert_eq!(release.hsts().unwrap(), "max-age=31536000; includeSubDomains; preload");
}

#[test]
fn a_large_release_is_small_and_quick() {
    let entries = (0..100_000).map(|number| Entry {
        path: format!("library/module_{}/file_number_{number}.html", number % 977).parse().unwrap(),
        digest: Digest::of(&u32::to_le_bytes(number)),
        size_bytes: 1,
        content_type: None,
    });
    let manifest = Manifest::new(entries.collect()).unwrap();
    let rules = rules("", "/*\n X-A: 1\n/library/module_1/*\n X-B: 2\n");
    let begun = Instant::now();
    let id = ReleaseId::new(1, [1; 10]);
    let release = Release::build(id, &manifest, &rules, &VariantIndex::default());
    // Generous, since tests are not optimised: an optimised build takes a twentieth.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(release.size_bytes() < 20 << 20, "{} bytes", release.size_bytes());
    assert_eq!(release.content.field_sets.len(), 3);
}

#[test]
fn blocks_that_nothing_tells_apart_are_tried_when_asked() {
    let block = |number: usize| HeaderBlock {
        path: format!("/*.{number}"),
        set: vec![("Cache-Control".into(), "immutable".into())],
        ..HeaderBlock::default()
    };
    let headers = (0..RuleSet::MAX_HEADER_BLOCKS).map(block).collect();
    let rules = RuleSet { headers, ..RuleSet::default() };
    let paths: Vec<String> = (0..6000).map(|number| format!("file.{number}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let release = release(&paths, &rules);
    assert!(!release.content.has_own_fields);
    assert!(!release.is_immutable("file.7"));
    assert!(fields(&release, "/file.7").is_immutable());
    assert!(!fields(&release, "/nothing").is_immutable());
}

#[test]
fn a_path_of_slashes_costs_no_more_than_its_length() {
    let release = release(&SITE, &rules("/:a/x /y 301\n/*/z /y 301\n", "/*/x\n X-A: 1\n"));
    let path = format!("/{}", "a/".repeat(4000));
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(shown(&release, &path, &[]), "404 404.html");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

proptest! {
    #[test]
    fn no_request_leaves_the_release(
        path in "(/|%2[eEfF]|%5c|\\.|\\.\\.|[a-c]|\\.html|index|%[0-9a-f]{2}|é|\\\\|\u{0}){0,12}",
        query in proptest::option::of("[ -~é\r\n]{0,12}"),
        mode in proptest::sample::select(vec![HtmlMode::Auto, HtmlMode::Slash, HtmlMode::Noslash, HtmlMode::Exact]),
        not_found in proptest::sample::select(vec![NotFound::Page, NotFound::Spa, NotFound::None]),
    ) {
        let files = ["index.html", "a.html", "a/index.html", "b/c", ".env", "c/.git/HEAD", "404.html"];
        let redirects = ["/b/*", "/c/:x"].map(|from| Redirect {
            from: from.into(),
            to: format!("/{}", if from.contains('*') { ":splat" } else { ":x" }),
            status: if from.contains('*') { 301 } else { 200 },
            force: true,
            query: Default::default(),
            conditions: Default::default(),
            line: 0,
        });
        let rules = RuleSet { html: mode, not_found, redirects: redirects.into(), ..RuleSet::default() };
        let release = release(&files, &rules);
        let headers = HeaderMap::new();
        let path = format!("/{path}");
        let view = View { query: query.as_deref(), ..view(&path, &headers) };
        match release.resolve(&View { path: &path, ..view }) {
            Resolution::File(served) => {
                prop_assert!(files.contains(&served.file.path()) && !is_hidden(served.file.path()));
            }
            Resolution::Redirect(moved) => {
                let location = moved.location.to_str().unwrap();
                prop_assert!(location.starts_with('/'), "{}", location);
                prop_assert!(!location.starts_with("//") && !location.contains('\\'), "{}", location);
            }
            Resolution::Empty(empty) => prop_assert_eq!(empty.status, 404),
            Resolution::Refused(_) => {}
        }
    }
}
