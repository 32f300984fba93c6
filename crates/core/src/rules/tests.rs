//! What a site's author writes, and what nigh makes of it.

use nigh_proto::{Digest, Entry, Manifest};
use proptest::prelude::*;

use super::*;

fn redirects(text: &str, dialect: Option<Dialect>) -> Parsed {
    parse(&RuleFiles { redirects: Some(text), ..RuleFiles::default() }, dialect)
}

fn headers(text: &str, dialect: Option<Dialect>) -> Parsed {
    parse(&RuleFiles { headers: Some(text), ..RuleFiles::default() }, dialect)
}

fn codes(notices: &[Notice]) -> Vec<(u32, &str)> {
    notices.iter().map(|notice| (notice.line, notice.code.as_str())).collect()
}

fn manifest(paths: &[&str]) -> Manifest {
    let entry = |path: &&str| Entry {
        path: path.parse().unwrap(),
        digest: Digest::of(path.as_bytes()),
        size_bytes: 1,
        content_type: None,
    };
    Manifest::new(paths.iter().map(entry).collect()).unwrap()
}

#[test]
fn a_line_is_from_query_to_status_and_conditions() {
    let text = "\
# a comment\r
/a  /b   301 # why\r
\r
/c id=:id tag /d/:id 302! Country=us,ca Language=en
/e https://x.test/#frag 308
https://old.test/* https://new.test/:splat 301!
/admin/* 200! Cookie=session
";
    let parsed = redirects(text, None);
    let rules = &parsed.rules.redirects;
    assert!(parsed.errors.is_empty() && parsed.warnings.is_empty(), "{parsed:?}");
    let shown: Vec<_> =
        rules.iter().map(|r| (r.from.as_str(), r.to.as_str(), r.status, r.force, r.line)).collect();
    assert_eq!(
        shown,
        [
            ("/a", "/b", 301, false, 2),
            ("/c", "/d/:id", 302, true, 4),
            ("/e", "https://x.test/#frag", 308, false, 5),
            ("https://old.test/*", "https://new.test/:splat", 301, true, 6),
            ("/admin/*", "/admin/:splat", 200, true, 7),
        ]
    );
    assert_eq!(rules[1].query["id"], ":id");
    assert_eq!(rules[1].query["tag"], "*");
    assert_eq!(rules[1].conditions.country, ["us", "ca"]);
    assert_eq!(rules[1].conditions.language, ["en"]);
    assert_eq!(rules[4].conditions.cookie, ["session"]);
    assert_eq!(parsed.rules.dialect, Dialect::Netlify);
}

#[test]
fn a_bad_line_is_reported_and_the_others_are_kept() {
    for (line, code) in [
        ("/a", "missing_destination"),
        ("/a 301", "missing_destination"),
        ("/a/* 301", "missing_destination"),
        ("/a /b moved", "invalid_status"),
        ("/a /b 300", "invalid_status"),
        ("/a /b 99999999", "invalid_status"),
        ("/a /b 301 302", "unexpected_token"),
        ("/a =x /b 301", "unexpected_token"),
        ("/a /b 301 Colour=red", "unknown_condition"),
        ("/a /b 301 Country=", "unknown_condition"),
        ("/a https://x.test/ 302 Sign=KEY", "sign_unsupported"),
        ("/.netlify/x /b 301", "reserved_path"),
        ("a /b 301", "invalid_from"),
        ("/a //evil.test 301", "invalid_target"),
        ("/a /\\evil.test 301", "invalid_character"),
        ("/*/x/* /b 301", "invalid_pattern"),
        ("/a?x=1 /b 301", "invalid_pattern"),
        ("/a https://x.test/ 404", "page_elsewhere"),
        ("  X-Frame-Options: DENY", "looks_like_headers"),
        ("X-Frame-Options: DENY", "looks_like_headers"),
    ] {
        let parsed = redirects(&format!("{line}\n/ok /kept 301\n"), Some(Dialect::Nigh));
        assert_eq!(codes(&parsed.warnings), [(1, code)], "{line}");
        assert_eq!(parsed.rules.redirects.len(), 1, "{line}");
        assert!(parsed.errors.is_empty(), "{line}");
    }
    let long = format!("/{} /b 301\n/ok /kept 301\n", "a".repeat(9000));
    let parsed = redirects(&long, Some(Dialect::Nigh));
    assert_eq!(codes(&parsed.warnings), [(1, "line_too_long")]);
    assert_eq!(parsed.rules.redirects.len(), 1);
}

#[test]
fn proxying_is_an_error_since_the_site_would_be_broken_without_it() {
    let parsed = redirects("/api/* https://api.test/:splat 200\n", None);
    assert_eq!(codes(&parsed.errors), [(1, "proxy_needs_origin")]);
    assert!(parsed.errors[0].message.contains("needs a named origin"));
}

#[test]
fn a_rule_without_a_status_follows_the_dialect() {
    for (dialect, status, warned) in [
        (None, 301, true),
        (Some(Dialect::Nigh), 301, true),
        (Some(Dialect::Netlify), 301, false),
        (Some(Dialect::Cloudflare), 302, false),
        (Some(Dialect::Ipfs), 301, false),
    ] {
        let parsed = redirects("/a /b\n", dialect);
        assert_eq!(parsed.rules.redirects[0].status, status, "{dialect:?}");
        assert_eq!(codes(&parsed.warnings) == [(1, "missing_status")], warned, "{dialect:?}");
    }
}

#[test]
fn cloudflare_has_shorter_lines_and_fewer_statuses() {
    let text = "a?q#f /b?x=1#y 301\n/c /d 404\n/e id=1 /f 301\nhttps://x.test/ /g 301\n/h /i 301 Country=us\n";
    let parsed = redirects(text, Some(Dialect::Cloudflare));
    let kept: Vec<_> =
        parsed.rules.redirects.iter().map(|r| (r.from.as_str(), r.to.as_str())).collect();
    assert_eq!(kept, [("/a", "/b?x=1#y")]);
    assert_eq!(
        codes(&parsed.warnings),
        [
            (2, "invalid_status"),
            (3, "not_in_dialect"),
            (4, "not_in_dialect"),
            (5, "not_in_dialect")
        ]
    );
}

#[test]
fn rules_that_cannot_be_meant_are_pointed_out() {
    let files = manifest(&["index.html", "about.html", "docs/index.html", "app.js"]);
    for (text, expected) in [
        ("/about /b 301", vec![(1, "shadowed_rule")]),
        ("/about/ /b 301", vec![(1, "shadowed_rule")]),
        ("/docs /b 301", vec![(1, "shadowed_rule")]),
        ("/app.js /b 301", vec![(1, "shadowed_rule")]),
        ("/ /b 301", vec![(1, "shadowed_rule")]),
        ("/about /b 301!", vec![]),
        ("/about /b 301 Country=de", vec![]),
        ("/a /b 301\n/a /c 302", vec![(2, "duplicate_rule")]),
        ("/a /b 301\n/a/ /c 302", vec![(2, "duplicate_rule")]),
        ("/a x=1 /b 301\n/a /c 302", vec![]),
        ("/a/* /b 301\n/a/c /d 301", vec![(2, "unreachable_rule")]),
        ("/a/* /b 301\n/a/:x/y /d 301", vec![(2, "unreachable_rule")]),
        ("/a/c /d 301\n/a/* /b 301", vec![]),
        ("/a/* /b 301 Country=de\n/a/c /d 301", vec![]),
        ("https://x.test/* /b 301\n/a /c 301", vec![]),
        ("/* https://y.test/ 301\nhttps://x.test/* /b 301", vec![(2, "unreachable_rule")]),
        ("/a /a 301", vec![(1, "redirect_loop")]),
        ("/a/ /a 301", vec![(1, "redirect_loop")]),
        ("/a/* /a/b/:splat 301", vec![(1, "redirect_loop")]),
        ("/* /missing.html 302", vec![]),
        ("/* /index.html 302", vec![]),
        ("/* /index.html 200", vec![]),
        ("/x/* /nowhere.html 200", vec![(1, "missing_page")]),
        ("/*/x /b 301", vec![(1, "splat_not_at_end")]),
        ("/a /:splat 301", vec![(1, "unknown_placeholder")]),
        ("/a https://x.test:8080/ 301", vec![]),
        ("/a /b 301 Role=admin", vec![(1, "not_applied_yet")]),
    ] {
        let given =
            RuleFiles { redirects: Some(text), manifest: Some(&files), ..RuleFiles::default() };
        let parsed = parse(&given, Some(Dialect::Nigh));
        assert_eq!(codes(&parsed.warnings), expected, "{text}");
        assert!(parsed.errors.is_empty(), "{text}");
    }
}

#[test]
fn a_rule_set_from_elsewhere_is_linted_too() {
    let rules: RuleSet = RuleSet::parse(
        br#"{"redirects":[{"from":"/*/a/*","to":"/b","status":301,"line":7}],
             "headers":[{"for":"/*","set":[["Cache-Control","immutable"]],"line":3}]}"#,
    )
    .unwrap();
    let notices = lint(&rules, None);
    assert_eq!(codes(&notices), [(7, "invalid_pattern"), (3, "immutable_pages")]);
}

#[test]
fn headers_come_in_blocks() {
    let text = "\
# comment
/*
  X-Frame-Options: DENY
  Link: </a.css>; rel=preload
  Link: </b.css>; rel=preload
Cache-Control: no-cache

https://x.test/a/*
  ! X-Frame-Options
  +Cache-Control: no-store
  Set-Cookie: a=1
  Set-Cookie: b=2
";
    let parsed = headers(text, Some(Dialect::Nigh));
    assert!(parsed.warnings.is_empty() && parsed.errors.is_empty(), "{parsed:?}");
    let [all, some] = &parsed.rules.headers[..] else { panic!("{parsed:?}") };
    let own = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    assert_eq!((all.path.as_str(), all.line), ("/*", 2));
    assert_eq!(
        all.set,
        [
            own("X-Frame-Options", "DENY"),
            own("Link", "</a.css>; rel=preload, </b.css>; rel=preload"),
            own("Cache-Control", "no-cache")
        ]
    );
    assert_eq!(some.detach, ["X-Frame-Options"]);
    assert_eq!(some.append, [own("Cache-Control", "no-store")]);
    assert_eq!(some.set, [own("Set-Cookie", "a=1"), own("Set-Cookie", "b=2")]);
}

#[test]
fn bad_fields_are_reported_and_the_others_are_kept() {
    for (field, code) in [
        ("Content-Length: 5", "reserved_header"),
        ("transfer-encoding: chunked", "reserved_header"),
        ("X A: 1", "invalid_header_name"),
        (": 1", "invalid_header_name"),
        ("X-A:", "invalid_header_value"),
        ("X-A: a\u{0}b", "invalid_header_value"),
        ("X-A: a\rSet-Cookie: b", "invalid_header_value"),
        ("nonsense", "invalid_header"),
        ("! ", "invalid_header_name"),
    ] {
        let parsed = headers(&format!("/*\n {field}\n X-Kept: 1\n"), Some(Dialect::Nigh));
        assert_eq!(codes(&parsed.warnings), [(2, code)], "{field:?}");
        assert_eq!(parsed.rules.headers[0].set.len(), 1, "{field:?}");
    }
    let parsed = headers("X-A: 1\n/a\n", Some(Dialect::Nigh));
    assert_eq!(codes(&parsed.warnings), [(1, "header_before_path"), (2, "empty_block")]);
    // The fields of a path that is refused are not those of the block before.
    let parsed = headers("/a\n X-A: 1\n/b%zz\n X-B: 1\n", Some(Dialect::Nigh));
    assert_eq!(codes(&parsed.warnings), [(3, "invalid_pattern")]);
    assert_eq!(parsed.rules.headers[0].set.len(), 1);
}

#[test]
fn blocks_that_miss_what_they_mean_are_pointed_out() {
    for (text, expected) in [
        ("/about.html\n X-A: 1\n", vec![(1, "headers_for_old_url")]),
        ("/*.html\n X-A: 1\n", vec![(1, "headers_for_old_url")]),
        ("/*\n Cache-Control: public, immutable\n", vec![(1, "immutable_pages")]),
        ("/assets/*\n Cache-Control: public, immutable\n", vec![]),
    ] {
        assert_eq!(codes(&headers(text, Some(Dialect::Nigh)).warnings), expected, "{text}");
    }
}

#[test]
fn for_cloudflare_a_slash_makes_another_path() {
    let parsed = redirects("/a /a/ 301\n/b /c 301\n/b/ /d 301\n", Some(Dialect::Cloudflare));
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
}

#[test]
fn a_password_that_would_not_protect_is_an_error() {
    let parsed = headers("/secret/*\n  Basic-Auth: user:pass\n", None);
    assert_eq!(codes(&parsed.errors), [(2, "basic_auth_unsupported")]);
}

#[test]
fn for_cloudflare_a_later_block_replaces_one_with_the_same_path() {
    let text = "/a\n X-A: 1\n/a\n X-B: 1\n";
    let parsed = headers(text, Some(Dialect::Cloudflare));
    assert_eq!(codes(&parsed.warnings), [(1, "duplicate_block")]);
    assert_eq!(parsed.rules.headers[0].set[0].0, "X-B");
    assert_eq!(headers(text, Some(Dialect::Nigh)).rules.headers.len(), 2);
}

#[test]
fn the_dialect_is_seen_by_what_only_it_has() {
    for (redirects, headers, dialect) in [
        ("/a /b 301", "/*\n X-A: 1", Dialect::Nigh),
        ("/a /b 301!", "", Dialect::Netlify),
        ("/a id=1 /b 301", "", Dialect::Netlify),
        ("/a /b 302 Country=de", "", Dialect::Netlify),
        ("/a /b?x=1 301", "", Dialect::Nigh),
        ("", "/*\n ! X-A", Dialect::Cloudflare),
        ("", "https://x.pages.dev/*\n X-A: 1", Dialect::Cloudflare),
        ("/a /b 301!", "/*\n ! X-A", Dialect::Nigh),
    ] {
        let files = RuleFiles {
            redirects: Some(redirects),
            headers: Some(headers),
            ..RuleFiles::default()
        };
        let parsed = parse(&files, None);
        assert_eq!(parsed.rules.dialect, dialect, "{redirects} {headers}");
        let is_ambiguous = parsed.warnings.iter().any(|notice| notice.code == "ambiguous_dialect");
        assert_eq!(is_ambiguous, !redirects.is_empty() && headers.contains('!'));
    }
}

#[test]
fn rules_of_nigh_toml_pass_the_same_checks_and_come_last() {
    #[derive(serde::Deserialize)]
    struct Config {
        redirects: Vec<RedirectItem>,
        headers: Vec<HeaderItem>,
    }
    let config: Config = toml::from_str(
        r#"
        [[redirects]]
        from = "/b"
        to = "/c"
        status = 302
        conditions = { Country = ["de"] }
        [[redirects]]
        from = "/d"
        to = "/e\r\nSet-Cookie: x=1"
        [[headers]]
        for = "/*"
        values = { X-A = "1", Link = ["</a>", "</b>"] }
        [[headers]]
        for = "/x"
        values = { X-B = "1\r\nX-C: 2" }
        "#,
    )
    .unwrap();
    let files = RuleFiles {
        redirects: Some("/a /b 301\n"),
        redirect_items: &config.redirects,
        header_items: &config.headers,
        ..RuleFiles::default()
    };
    let parsed = parse(&files, None);
    let from: Vec<_> = parsed.rules.redirects.iter().map(|rule| rule.from.as_str()).collect();
    assert_eq!(from, ["/a", "/b"]);
    assert_eq!(codes(&parsed.errors), [(0, "invalid_character"), (0, "invalid_header_value")]);
    assert!(parsed.errors.iter().all(|notice| notice.file == CONFIG_FILE));
    assert_eq!(parsed.rules.headers[0].set[0], ("Link".into(), "</a>, </b>".into()));
}

#[test]
fn more_rules_than_fit_are_an_error_and_never_cut() {
    let text = "/a /b 301\n".repeat(RuleSet::MAX_REDIRECTS + 1);
    let parsed = redirects(&text, None);
    assert_eq!(codes(&parsed.errors), [(0, "too_many")]);
    let text = format!("/*\n{}", " X-A: 1\n".repeat(20_000));
    assert!(headers(&text, None).rules.headers[0].check().is_ok());
}

#[test]
fn notices_are_bounded() {
    let parsed = redirects(&"/a\n".repeat(5000), None);
    assert_eq!(parsed.warnings.len(), Parsed::MAX_NOTICES + 1);
    assert!(parsed.warnings.last().unwrap().message.contains("4000 more"));
}

#[test]
fn fifty_thousand_rules_are_linted_and_compiled_in_time() {
    let line = |n: u32| match n % 3 {
        0 => format!("/*/{n} /new/{n} 301\n"),
        1 => format!("/old/{n}/* /new/{n}/:splat 301\n"),
        _ => format!("/:lang/old/{n} /new/{n} 301\n"),
    };
    let text: String = (0..50_000).map(line).collect();
    let begun = std::time::Instant::now();
    let parsed = redirects(&text, None);
    let compiled = CompiledRules::compile(&parsed.rules);
    assert!(parsed.errors.is_empty() && compiled.ignored() == 0);
    // Anything quadratic would take minutes.
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

proptest! {
    #[test]
    fn what_is_read_from_any_text_is_a_valid_rule_set(
        redirects in "([/a:*=!#?% ]|301|200|https://x.test|\\\\|\r|\n|\u{0}|é){0,60}",
        headers in "(/\\*\n|[a-z:!+ #]|: |\r|\n|\u{0}|é){0,60}",
        dialect in proptest::option::of(proptest::sample::select(Dialect::ALL.to_vec())),
    ) {
        let files = RuleFiles {
            redirects: Some(&redirects),
            headers: Some(&headers),
            ..RuleFiles::default()
        };
        let parsed = parse(&files, dialect);
        prop_assert!(parsed.rules.check().is_ok(), "{:?}", parsed.rules);
        prop_assert_eq!(RuleSet::parse(&parsed.rules.encode()).unwrap(), parsed.rules.clone());
        prop_assert_eq!(CompiledRules::compile(&parsed.rules).ignored(), 0);
    }
}
