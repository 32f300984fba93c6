//! What patterns mean, by example and against slower definitions.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn fits(pattern: &str, path: &str, dialect: Dialect) -> Option<Vec<(String, String)>> {
    let pattern = Pattern::parse(pattern, Use::Headers, dialect).unwrap();
    let captures = pattern.matches(path)?;
    Some(captures.values.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
}

#[test]
fn placeholders_are_one_segment_and_stars_are_any_number() {
    for (pattern, path, expected) in [
        ("/", "/", Some(vec![])),
        ("/a", "/a", Some(vec![])),
        ("/a", "/a/", Some(vec![])),
        ("/a/", "/a", Some(vec![])),
        ("/a", "/ab", None),
        ("/a", "/A", None),
        ("/a/*", "/a/b/c", Some(vec![("splat", "b/c")])),
        ("/a/*", "/a/b/", Some(vec![("splat", "b/")])),
        ("/a/*", "/a/", Some(vec![("splat", "")])),
        ("/a/*", "/a", Some(vec![("splat", "")])),
        ("/a/*", "/ab", None),
        ("/a*", "/ab", Some(vec![("splat", "b")])),
        ("/*", "/", Some(vec![("splat", "")])),
        ("/:x", "/a", Some(vec![("x", "a")])),
        ("/:x", "/", None),
        ("/:x", "/a/b", None),
        ("/:x/*", "/a", Some(vec![("x", "a"), ("splat", "")])),
        ("/:y/:m/p", "/2024/05/p", Some(vec![("y", "2024"), ("m", "05")])),
        ("/:id.html", "/42.html", Some(vec![("id", "42")])),
        ("/:id.html", "/.html", None),
        ("/a:b", "/a:b", Some(vec![])),
        ("/*/b", "/x/y/b", Some(vec![("splat", "x/y")])),
        ("/*/b", "/b", None),
        ("/*/b/:c", "/x/b/z", Some(vec![("splat", "x"), ("c", "z")])),
        ("/blog/*.jpg", "/blog/x/y.jpg", Some(vec![("splat", "x/y")])),
        ("/blog/*.jpg", "/blog/x.png", None),
        ("/*/_next/*", "/en/_next/a.js", Some(vec![("splat", "a.js")])),
        ("/*/_next/*", "/_next/a.js", None),
        ("/*a*b*", "/xxayybzz", Some(vec![("splat", "zz")])),
        ("/*a*a", "/a", None),
        ("/a%20b", "/a b", Some(vec![])),
        ("/%2a", "/*", Some(vec![])),
    ] {
        let expected = expected.map(|values: Vec<(&str, &str)>| {
            values.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
        });
        assert_eq!(fits(pattern, path, Dialect::Nigh), expected, "{pattern} {path}");
    }
}

#[test]
fn cloudflare_reads_slashes_and_inner_colons_literally_as_it_does() {
    for (pattern, path, does_fit) in [
        ("/a", "/a/", false),
        ("/a/", "/a", false),
        ("/a/*", "/a", false),
        ("/a/*", "/a/", true),
        ("/post-:id", "/post-4", true),
        ("/post-:id.html", "/post-4.html", true),
    ] {
        assert_eq!(
            fits(pattern, path, Dialect::Cloudflare).is_some(),
            does_fit,
            "{pattern} {path}"
        );
    }
}

#[test]
fn patterns_without_one_meaning_are_refused() {
    let redirect = |text| Pattern::parse(text, Use::Redirect, Dialect::Nigh).unwrap_err();
    assert!(matches!(redirect("/*/a/*"), InvalidPattern::Stars(_)));
    assert!(matches!(redirect("/:x*"), InvalidPattern::Placeholder(_)));
    assert!(matches!(redirect("/a?b=c"), InvalidPattern::Query(_)));
    assert!(matches!(redirect("/a%2fb"), InvalidPattern::Path(..)));
    assert!(matches!(redirect("/a%zz"), InvalidPattern::Path(..)));
    assert!(matches!(redirect("https://[::1]/a"), InvalidPattern::Host(_)));
    for text in ["/:a-:b", "/*:a", "/*x:a"] {
        let error = Pattern::parse(text, Use::Redirect, Dialect::Cloudflare).unwrap_err();
        assert!(matches!(error, InvalidPattern::Placeholder(_)), "{text}");
    }
    let error = Pattern::parse("/*/:a/*", Use::Headers, Dialect::Nigh).unwrap_err();
    assert!(matches!(error, InvalidPattern::Placeholder(_)));
}

#[test]
fn a_deep_pattern_is_led_to_by_a_few_segments_only() {
    for (text, steps) in [("/a/:x".repeat(600), 9), ("/a/:x".repeat(4), 9), ("/a/:x".repeat(3), 7)]
    {
        let pattern = Pattern::parse(&text, Use::Redirect, Dialect::Nigh).unwrap();
        assert_eq!(pattern.steps().len(), steps);
        assert!(pattern.matches(&pattern.example("filler")).is_some());
    }
}

#[test]
fn a_rule_may_name_a_host() {
    let pattern = Pattern::parse("https://Old.test/a/*", Use::Redirect, Dialect::Nigh).unwrap();
    assert_eq!(pattern.site, Some(Site { is_https: true, host: "old.test".into() }));
    assert!(pattern.matches("/a/b").is_some());
    assert_eq!(pattern.steps(), [Step::Literal("a".into()), Step::Open]);
}

#[test]
fn an_adversarial_path_costs_no_more_than_its_length() {
    let pattern = "/*a".repeat(8);
    let pattern = Pattern::parse(&pattern, Use::Headers, Dialect::Nigh).unwrap();
    let path = format!("/{}b", "/aa".repeat(2700));
    let begun = Instant::now();
    for _ in 0..100 {
        assert!(pattern.matches(&path).is_none());
    }
    // Backtracking over eight stars would take longer than the universe has existed.
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// The meaning of a pattern, by trying every way.
fn fits_slowly(pattern: &[u8], path: &[u8]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((b'*', rest)) => (0..=path.len()).any(|at| fits_slowly(rest, &path[at..])),
        Some((byte, rest)) => path.first() == Some(byte) && fits_slowly(rest, &path[1..]),
    }
}

proptest! {
    #[test]
    fn stars_mean_what_trying_every_way_means(
        pattern in "/[ab/]{0,4}(\\*[ab/]{0,3}){0,3}", path in "/[ab/]{0,12}"
    ) {
        let compiled = Pattern::parse(&pattern, Use::Headers, Dialect::Cloudflare).unwrap();
        prop_assert_eq!(
            compiled.matches(&path).is_some(),
            fits_slowly(pattern.as_bytes(), path.as_bytes())
        );
    }

    #[test]
    fn an_example_fits_its_own_pattern(pattern in "/([a-c]{1,2}|:x|[a-c]?\\*[a-c]?)(/([a-c]{1,2}|:x|[a-c]?\\*[a-c]?)){0,4}/?") {
        if let Ok(compiled) = Pattern::parse(&pattern, Use::Headers, Dialect::Nigh) {
            let example = compiled.example("filler");
            prop_assert!(compiled.matches(&example).is_some(), "{}", example);
        }
    }

    #[test]
    fn any_text_is_compiled_or_refused_and_matched(
        pattern in "/[a:*/%2x.é]{0,20}", path in "/.{0,20}"
    ) {
        for dialect in Dialect::ALL {
            if let Ok(compiled) = Pattern::parse(&pattern, Use::Headers, dialect) {
                let _ = compiled.matches(&path);
            }
        }
    }
}
