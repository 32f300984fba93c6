//! The checklist of an authoritative server, by RFC and section, over the pure function.

use super::*;
use crate::fixture::{Asked, ask, packet, snapshot};

#[test]
fn rfc_1035_4_1_1_less_than_a_header_is_met_with_silence() {
    for len in 0..12 {
        assert_eq!(reply_to(&vec![0; len]), None, "{len}");
    }
}

#[test]
fn rfc_1035_4_1_1_a_reply_is_met_with_silence() {
    let mut query = packet("docs.nigh.test", kind::A);
    query[2] |= 0x80;
    assert_eq!(reply_to(&query), None);
    // Also one that makes no sense: two servers must never keep each other busy.
    query.truncate(14);
    assert_eq!(reply_to(&query), None);
}

#[test]
fn rfc_8906_3_1_4_unknown_opcodes_are_not_implemented() {
    for opcode in 1..16u8 {
        let mut query = packet("docs.nigh.test", kind::A);
        query[2] = opcode << 3;
        let reply = reply_to(&query).unwrap().bytes;
        assert_eq!(reply, [0x12, 0x34, 0x80 | opcode << 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(reply_to(&query[..12]).unwrap().bytes, reply);
    }
}

#[test]
fn rfc_9619_a_query_has_one_question() {
    for count in [0, 2, 255] {
        let mut query = packet("docs.nigh.test", kind::A);
        query[5] = count;
        assert_eq!(reply_to(&query).unwrap().rcode, Rcode::FormErr, "{count}");
    }
}

#[test]
fn rfc_1035_3_1_a_question_is_whole_plain_and_not_too_long() {
    let head = &packet("x.test", kind::A)[..12];
    let long_name = [&b"\x3f"[..], &[b'a'; 63]].concat().repeat(4);
    let questions: [&[u8]; 7] = [
        b"",
        b"\x04docs",
        b"\xc0\x0c\0\x01\0\x01",
        b"\x01a\xc0\x0c\0\x01\0\x01",
        b"\x40\0\0\x01\0\x01",
        b"\x01a\0\0\x01\0",
        &[&long_name[..], b"\0\0\x01\0\x01"].concat(),
    ];
    for question in questions {
        let reply = reply_to(&[head, question].concat()).unwrap();
        assert_eq!(reply.rcode, Rcode::FormErr, "{question:?}");
        assert_eq!(reply.bytes.len(), 12, "no question is repeated");
    }
}

#[test]
fn rfc_1035_4_1_bytes_after_the_last_record_are_malformed() {
    let mut query = packet("docs.nigh.test", kind::A);
    query.push(0);
    assert_eq!(reply_to(&query).unwrap().rcode, Rcode::FormErr);
}

#[test]
fn rfc_1035_4_1_1_and_4035_3_1_6_only_rd_and_cd_are_copied() {
    for (flags, copied) in [
        ([0x01, 0x00], [0x85, 0x00]),
        ([0x00, 0x10], [0x84, 0x10]),
        ([0x06, 0xe0], [0x84, 0x00]),
        ([0x07, 0xf0], [0x85, 0x10]),
    ] {
        let mut query = packet("docs.nigh.test", kind::A);
        query[2..4].copy_from_slice(&flags);
        assert_eq!(reply_to(&query).unwrap().bytes[2..4], copied, "{flags:?}");
    }
}

#[test]
fn the_question_and_the_owner_keep_the_case_they_were_asked_in() {
    let query = packet("DoCs.nIgH.tEsT", kind::A);
    let reply = reply_to(&query).unwrap().bytes;
    assert_eq!(reply[12..query.len()], query[12..]);
    // The owner is a pointer to the question.
    assert_eq!(reply[query.len()..query.len() + 2], [0xc0, 0x0c]);
}

#[test]
fn rfc_1034_4_3_2_names_outside_all_zones_are_refused() {
    for name in ["other.test", "test", ".", "tonigh.test"] {
        let reply = ask(&snapshot(), Asked::new(name, kind::A).edns());
        assert_eq!(reply.rcode, Rcode::Refused, "{name}");
        assert!(!reply.aa && reply.authorities.is_empty());
        assert_eq!(reply.ede, Some(20));
    }
}

#[test]
fn rfc_2308_2_2_an_absent_type_is_no_data_with_soa() {
    for (name, asked) in [
        ("docs.nigh.test", kind::TXT),
        ("nigh.test", kind::CAA),
        ("text.nigh.test", kind::A),
        ("text.nigh.test", 1000),
        ("text.nigh.test", 65534),
        ("docs.nigh.test", kind::HTTPS),
    ] {
        let reply = ask(&snapshot(), Asked::new(name, asked));
        assert_eq!((reply.rcode, reply.aa), (Rcode::NoError, true), "{name}");
        assert!(reply.answers.is_empty());
        assert_eq!(reply.authorities, ["nigh.test 60 SOA"], "{name}");
    }
}

#[test]
fn rfc_2308_2_1_and_8020_an_absent_name_is_nxdomain_with_soa() {
    for name in ["absent.nigh.test", "a.b.c.nigh.test", "x.docs.nigh.test"] {
        let reply = ask(&snapshot(), Asked::new(name, kind::A));
        assert_eq!((reply.rcode, reply.aa), (Rcode::NxDomain, true), "{name}");
        assert_eq!(reply.authorities, ["nigh.test 60 SOA"], "{name}");
    }
}

#[test]
fn rfc_8020_2_an_empty_non_terminal_exists() {
    for name in ["ent.nigh.test", "deep.ent.nigh.test", "ent.wild.nigh.test"] {
        let reply = ask(&snapshot(), Asked::new(name, kind::TXT));
        assert_eq!((reply.rcode, reply.answers.len()), (Rcode::NoError, 0), "{name}");
        assert_eq!(reply.authorities, ["nigh.test 60 SOA"], "{name}");
    }
}

#[test]
fn rfc_4592_wildcards_cover_what_does_not_exist_and_only_that() {
    for (name, answer) in [
        ("anything.wild.nigh.test", Some("anything.wild.nigh.test 300 TXT")),
        ("a.b.wild.nigh.test", Some("a.b.wild.nigh.test 300 TXT")),
        ("*.wild.nigh.test", Some("*.wild.nigh.test 300 TXT")),
        // They exist, if only as an empty non-terminal.
        ("wild.nigh.test", None),
        ("ent.wild.nigh.test", None),
        // The closest encloser is a name that exists and has no wildcard.
        ("x.ent.wild.nigh.test", None),
        ("x.y.ent.wild.nigh.test", None),
    ] {
        let reply = ask(&snapshot(), Asked::new(name, kind::TXT));
        assert_eq!(reply.answers, answer.into_iter().collect::<Vec<_>>(), "{name}");
    }
    let reply = ask(&snapshot(), Asked::new("x.ent.wild.nigh.test", kind::TXT));
    assert_eq!(reply.rcode, Rcode::NxDomain);
    let reply = ask(&snapshot(), Asked::new("x.wild.nigh.test", kind::MX));
    assert_eq!((reply.rcode, reply.authorities.len()), (Rcode::NoError, 1));
}

#[test]
fn rfc_6604_3_the_code_is_that_of_the_last_name() {
    for (name, rcode, soa) in [
        ("to-absent.nigh.test", Rcode::NxDomain, &["nigh.test 60 SOA"][..]),
        ("to-text.nigh.test", Rcode::NoError, &["nigh.test 60 SOA"]),
        ("to-outside.nigh.test", Rcode::NoError, &[]),
    ] {
        let reply = ask(&snapshot(), Asked::new(name, kind::A));
        assert_eq!((reply.rcode, reply.aa), (rcode, true), "{name}");
        assert_eq!(reply.answers, [format!("{name} 300 CNAME")], "{name}");
        assert_eq!(reply.authorities, soa, "{name}");
    }
}

#[test]
fn rfc_1034_3_6_2_a_cname_is_followed_to_a_site_and_to_another_zone() {
    let reply = ask(&snapshot(), Asked::new("to-docs.nigh.test", kind::A).subnet("203.0.113.0/24"));
    assert_eq!(reply.answers[0], "to-docs.nigh.test 300 CNAME");
    assert_eq!(reply.answers[1], "docs.nigh.test 20 A 10.0.0.3");
    assert_eq!(reply.scope_len, Some(24));
    let reply = ask(&snapshot(), Asked::new("to-second.nigh.test", kind::TXT));
    assert_eq!(reply.answers, ["to-second.nigh.test 300 CNAME", "second.test 300 TXT"]);
    let reply = ask(&snapshot(), Asked::new("to-docs.nigh.test", kind::CNAME));
    assert_eq!(reply.answers, ["to-docs.nigh.test 300 CNAME"]);
}

#[test]
fn rfc_1034_5_2_2_loops_and_long_chains_are_bounded() {
    let reply = ask(&snapshot(), Asked::new("loop.nigh.test", kind::A));
    assert_eq!((reply.rcode, reply.answers.len()), (Rcode::NoError, 2));
    let reply = ask(&snapshot(), Asked::new("chain0.nigh.test", kind::A).tcp());
    assert_eq!((reply.rcode, reply.answers.len()), (Rcode::NoError, 17));
}

#[test]
fn rfc_1034_4_3_2_and_9471_a_delegation_is_referred_with_its_glue() {
    for name in ["cut.nigh.test", "x.cut.nigh.test", "ns.cut.nigh.test"] {
        let reply = ask(&snapshot(), Asked::new(name, kind::A));
        assert_eq!((reply.rcode, reply.aa), (Rcode::NoError, false), "{name}");
        assert!(reply.answers.is_empty());
        assert_eq!(reply.authorities, ["cut.nigh.test 300 NS", "cut.nigh.test 300 NS"]);
        assert_eq!(reply.additionals, ["ns.cut.nigh.test 300 A 10.9.9.9"], "{name}");
    }
}

#[test]
fn rfc_9471_3_1_glue_that_does_not_fit_truncates() {
    let reply = ask(&snapshot(), Asked::new("x.wide.nigh.test", kind::A));
    assert!(reply.tc && reply.authorities.is_empty() && reply.additionals.is_empty());
    let reply = ask(&snapshot(), Asked::new("x.wide.nigh.test", kind::A).tcp());
    assert_eq!((reply.tc, reply.additionals.len()), (false, 40));
}

#[test]
fn rfc_4035_3_1_4_1_ds_is_answered_by_the_parent() {
    for name in ["cut.nigh.test", "child.nigh.test"] {
        let reply = ask(&snapshot(), Asked::new(name, kind::DS));
        assert_eq!((reply.rcode, reply.aa), (Rcode::NoError, true), "{name}");
        assert_eq!(reply.authorities, ["nigh.test 60 SOA"], "{name}");
    }
    // Nobody here is the parent of this one.
    let reply = ask(&snapshot(), Asked::new("nigh.test", kind::DS));
    assert_eq!(reply.authorities, ["nigh.test 60 SOA"]);
    let reply = ask(&snapshot(), Asked::new("x.cut.nigh.test", kind::DS));
    assert!(!reply.aa, "below the cut it is a referral like any other");
}

#[test]
fn a_zone_within_a_zone_answers_for_itself() {
    let reply = ask(&snapshot(), Asked::new("www.child.nigh.test", kind::A));
    assert_eq!(reply.answers, ["www.child.nigh.test 300 A 10.7.7.7"]);
    let reply = ask(&snapshot(), Asked::new("absent.child.nigh.test", kind::A));
    assert_eq!(reply.authorities, ["child.nigh.test 60 SOA"]);
}

#[test]
fn rfc_8482_4_2_any_is_answered_with_hinfo() {
    for asked in [Asked::new("docs.nigh.test", kind::ANY), Asked::new("nigh.test", kind::ANY).tcp()]
    {
        let name = asked.name.clone();
        let reply = ask(&snapshot(), asked);
        assert_eq!(reply.answers, [format!("{name} 3600 HINFO")]);
        assert!(reply.bytes.windows(9).any(|bytes| bytes == b"\x07RFC8482\0"));
    }
    let reply = ask(&snapshot(), Asked::new("absent.nigh.test", kind::ANY));
    assert_eq!(reply.rcode, Rcode::NxDomain);
}

#[test]
fn rfc_1035_3_2_3_and_6895_3_1_meta_types_are_not_looked_up() {
    for (asked, rcode) in [
        (kind::OPT, Rcode::FormErr),
        (kind::NXNAME, Rcode::FormErr),
        (kind::IXFR, Rcode::NotImp),
        (kind::AXFR, Rcode::NotImp),
        (249, Rcode::NotImp),
        (253, Rcode::NotImp),
        (254, Rcode::NotImp),
    ] {
        let reply = ask(&snapshot(), Asked::new("nigh.test", asked));
        assert_eq!(reply.rcode, rcode, "{asked}");
    }
    let reply = ask(&snapshot(), Asked::new("nigh.test", kind::NXNAME).edns());
    assert_eq!(reply.ede, Some(30), "RFC 9824, section 3.5");
    let reply = ask(&snapshot(), Asked::new("nigh.test", kind::AXFR).tcp());
    assert_eq!(reply.rcode, Rcode::Refused, "RFC 5936, section 2.2.1");
}

#[test]
fn rfc_1035_3_2_4_classes_other_than_internet_are_refused() {
    for class in [0, 2, 3, 4, 254, 65280] {
        for (name, asked) in [("docs.nigh.test", kind::A), ("version.bind", kind::TXT)] {
            let reply = ask(&snapshot(), Asked { class, ..Asked::new(name, asked) });
            assert_eq!((reply.rcode, reply.answers.len()), (Rcode::Refused, 0), "{class}");
        }
    }
    let reply = ask(&snapshot(), Asked { class: 255, ..Asked::new("docs.nigh.test", kind::A) });
    assert_eq!(reply.answers.len(), 1, "class ANY means the only one there is");
}

#[test]
fn rfc_6891_7_without_opt_there_is_no_opt() {
    let reply = ask(&snapshot(), Asked::new("docs.nigh.test", kind::A));
    assert!(reply.opt.is_none());
    let reply = ask(&snapshot(), Asked::new("big.nigh.test", kind::TXT));
    assert!(reply.tc && reply.bytes.len() <= 512);
}

#[test]
fn rfc_6891_6_1_3_other_versions_are_bad_versions() {
    let reply =
        ask(&snapshot(), Asked { version: 1, ..Asked::new("docs.nigh.test", kind::A).edns() });
    let opt = reply.opt.unwrap();
    assert_eq!((reply.rcode, opt.version, reply.answers.len()), (Rcode::BadVers, 0, 0));
}

#[test]
fn rfc_6891_6_1_2_unknown_options_and_flags_are_ignored_and_not_echoed() {
    let mut asked = Asked::new("docs.nigh.test", kind::A).option(65001, b"hello");
    asked.edns_flags = 0x7fff;
    let opt = ask(&snapshot(), asked).opt.unwrap();
    assert_eq!((opt.flags, opt.options.len()), (0, 0));
}

#[test]
fn rfc_6891_6_1_1_malformed_opt_is_a_format_error() {
    let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";
    let bare = packet("docs.nigh.test", kind::A);
    let with = |records: &[&[u8]], counts: [u8; 3]| {
        let mut query = [&bare[..], &records.concat()].concat();
        (query[7], query[9], query[11]) = (counts[0], counts[1], counts[2]);
        reply_to(&query).unwrap().rcode
    };
    assert_eq!(with(&[opt], [0, 0, 1]), Rcode::NoError);
    assert_eq!(with(&[opt, opt], [0, 0, 2]), Rcode::FormErr, "two");
    assert_eq!(with(&[opt], [1, 0, 0]), Rcode::FormErr, "in the answer section");
    assert_eq!(with(&[b"\x01a", opt], [0, 0, 1]), Rcode::FormErr, "not of the root");
    let past_end = b"\0\0\x29\x04\xd0\0\0\0\0\0\x04\0\x03\0\x09";
    assert_eq!(with(&[past_end], [0, 0, 1]), Rcode::FormErr, "option past the end");
    assert_eq!(with(&[&opt[..9]], [0, 0, 1]), Rcode::FormErr, "cut short");
}

#[test]
fn rfc_6891_6_2_3_a_small_payload_means_512() {
    for payload in [0, 100, 511, 512] {
        let asked = Asked { payload, ..Asked::new("big.nigh.test", kind::TXT).edns() };
        let reply = ask(&snapshot(), asked);
        assert!(reply.tc && reply.bytes.len() <= 512, "{payload}");
    }
    let asked = Asked { payload: 100, ..Asked::new("medium.nigh.test", kind::TXT).edns() };
    assert!(!ask(&snapshot(), asked).tc);
}

#[test]
fn flag_day_2020_no_udp_reply_is_larger_than_1232_bytes() {
    let asked = Asked { payload: 4096, ..Asked::new("big.nigh.test", kind::TXT).edns() };
    let reply = ask(&snapshot(), asked);
    assert!(reply.tc && reply.bytes.len() <= 1232);
}

#[test]
fn rfc_2181_9_what_does_not_fit_is_left_out_as_a_whole_and_comes_over_tcp() {
    let reply = ask(&snapshot(), Asked::new("big.nigh.test", kind::TXT).edns());
    assert!(reply.tc && reply.answers.is_empty() && reply.opt.is_some());
    let reply = ask(&snapshot(), Asked::new("big.nigh.test", kind::TXT).edns().tcp());
    assert_eq!((reply.tc, reply.answers.len()), (false, 20));
}

#[test]
fn rfc_3225_3_do_is_copied() {
    for flags in [0x8000, 0] {
        let mut asked = Asked::new("docs.nigh.test", kind::A).edns();
        asked.edns_flags = flags;
        assert_eq!(ask(&snapshot(), asked).opt.unwrap().flags, flags);
    }
}

#[test]
fn rfc_5001_2_1_the_machine_is_named_to_those_who_ask() {
    let reply = ask(&snapshot(), Asked::new("docs.nigh.test", kind::A).option(3, b""));
    assert_eq!(reply.opt.unwrap().options, [(3, b"ns1".to_vec())]);
    let reply = ask(&snapshot(), Asked::new("docs.nigh.test", kind::A).edns());
    assert!(reply.opt.unwrap().options.is_empty());
}

#[test]
fn rfc_7828_3_3_1_keepalive_is_a_matter_of_tcp() {
    let asked = || Asked::new("docs.nigh.test", kind::A).option(11, b"");
    assert!(ask(&snapshot(), asked()).opt.unwrap().options.is_empty());
    let options = ask(&snapshot(), asked().tcp()).opt.unwrap().options;
    assert_eq!(options, [(11, vec![0, 100])]);
}

#[test]
fn rfc_7871_7_2_1_the_subnet_is_echoed_with_the_scope_of_the_answer() {
    for (subnet, scope_len, edge) in [
        ("203.0.113.0/24", 24, "10.0.0.3"),
        ("198.51.100.0/24", 24, "10.0.0.1"),
        ("192.0.2.128/25", 24, "10.0.0.2"),
        ("192.0.2.77/32", 24, "10.0.0.2"),
        // Nobody knows this one: the resolver's own place counts, for all of what is unknown.
        ("172.16.0.0/24", 12, "10.0.0.1"),
        // An operator's network within another one.
        ("100.1.2.0/24", 16, "10.0.0.3"),
        ("100.2.2.0/24", 15, "10.0.0.2"),
    ] {
        let reply = ask(&snapshot(), Asked::new("docs.nigh.test", kind::A).subnet(subnet));
        assert_eq!(reply.answers, [format!("docs.nigh.test 20 A {edge}")], "{subnet}");
        assert_eq!(reply.scope_len, Some(scope_len), "{subnet}");
        assert_eq!(reply.subnet.as_deref(), Some(subnet));
    }
}

#[test]
fn rfc_7871_7_1_2_a_source_of_0_is_answered_by_the_resolvers_address() {
    let reply = ask(&snapshot(), Asked::new("docs.nigh.test", kind::A).subnet("0.0.0.0/0"));
    assert_eq!((reply.scope_len, reply.subnet.as_deref()), (Some(0), Some("0.0.0.0/0")));
    assert_eq!(reply.answers, ["docs.nigh.test 20 A 10.0.0.1"]);
}

#[test]
fn rfc_7871_7_2_2_a_scope_never_exceeds_the_source() {
    let reply = ask(&snapshot(), Asked::new("docs.nigh.test", kind::A).subnet("192.0.0.0/16"));
    assert_eq!(reply.scope_len, Some(16));
}

#[test]
fn rfc_7871_7_1_malformed_subnets_are_format_errors() {
    for value in [
        &b"\0\x03\x08\0\x01"[..],
        b"\0\x01\x21\0\x01\x02\x03\x04\x05",
        b"\0\x01\x18\x01\x01\x02\x03",
    ] {
        let reply = ask(&snapshot(), Asked::new("docs.nigh.test", kind::A).option(8, value));
        assert_eq!(reply.rcode, Rcode::FormErr, "{value:?}");
        assert!(reply.opt.is_some_and(|opt| opt.options.is_empty()));
    }
}

#[test]
fn rfc_7871_7_2_1_fixed_and_negative_answers_hold_everywhere() {
    for (name, asked) in [
        ("text.nigh.test", kind::TXT),
        ("nigh.test", kind::NS),
        ("nigh.test", kind::SOA),
        ("docs.nigh.test", kind::CAA),
        ("absent.nigh.test", kind::A),
        ("www.child.nigh.test", kind::A),
    ] {
        let reply = ask(&snapshot(), Asked::new(name, asked).subnet("203.0.113.0/24"));
        assert_eq!(reply.scope_len, Some(0), "{name}");
    }
}

#[test]
fn rfc_7871_6_ipv6_subnets_are_steered_too() {
    let asked = Asked::new("docs.nigh.test", kind::AAAA).subnet("2001:db8:3::/48");
    let reply = ask(&snapshot(), asked);
    assert_eq!(reply.answers, ["docs.nigh.test 20 AAAA 2001:db8:ffff::3"]);
    assert_eq!(reply.scope_len, Some(48));
}

#[test]
fn a_family_that_no_edge_has_is_no_data_that_is_soon_forgotten() {
    let mut state = crate::fixture::state();
    state.edges.iter_mut().for_each(|edge| edge.ipv6.clear());
    let snapshot = crate::fixture::compile(&state);
    let asked = Asked::new("docs.nigh.test", kind::AAAA).subnet("203.0.113.0/24");
    let reply = ask(&snapshot, asked);
    assert_eq!((reply.rcode, reply.scope_len), (Rcode::NoError, Some(0)));
    assert_eq!(reply.authorities, ["nigh.test 20 SOA"]);
}

#[test]
fn rfc_2181_8_a_ttl_beyond_31_bits_is_zero() {
    let reply = ask(&snapshot(), Asked::new("long-ttl.nigh.test", kind::A));
    assert_eq!(reply.answers, ["long-ttl.nigh.test 0 A 10.5.5.5"]);
}

#[test]
fn rfc_8555_8_4_a_challenge_is_seen_beside_a_wildcard() {
    let reply = ask(&snapshot(), Asked::new("_acme-challenge.wild.nigh.test", kind::TXT));
    assert_eq!(reply.answers, ["_acme-challenge.wild.nigh.test 10 TXT"]);
}

#[test]
fn the_apex_has_its_own_records_and_can_be_a_host() {
    let reply = ask(&snapshot(), Asked::new("nigh.test", kind::NS));
    assert_eq!(reply.answers, ["nigh.test 3600 NS"]);
    assert_eq!(reply.additionals, ["ns1.nigh.test 300 A 10.6.6.6"]);
    let reply = ask(&snapshot(), Asked::new("nigh.test", kind::SOA));
    assert_eq!(reply.answers, ["nigh.test 3600 SOA"]);
    let reply = ask(&snapshot(), Asked::new("nigh.test", kind::A));
    assert_eq!(reply.answers, ["nigh.test 20 A 10.0.0.1"]);
    let reply = ask(&snapshot(), Asked::new("nigh.test", kind::MX));
    assert_eq!(reply.answers, ["nigh.test 300 MX"]);
}

#[test]
fn without_a_state_every_query_is_refused_as_not_ready_rfc_8914_4_15() {
    let query = Asked::new("docs.nigh.test", kind::A).edns().packet();
    let reply = answer(None, &query, source(), Transport::Udp).unwrap();
    assert_eq!(reply.rcode, Rcode::Refused);
    assert!(reply.bytes.ends_with(&[0, 15, 0, 2, 0, 14]));
}

#[test]
fn the_edges_of_an_answer_are_told_to_metrics() {
    let query = Asked::new("docs.nigh.test", kind::A).subnet("203.0.113.0/24").packet();
    let reply = reply_to(&query).unwrap();
    assert_eq!((reply.edges, reply.kind), (vec![2], Some(kind::A)));
}

fn source() -> IpAddr {
    crate::fixture::RESOLVER
}

fn reply_to(packet: &[u8]) -> Option<Reply> {
    answer(Some(&snapshot()), packet, source(), Transport::Udp)
}
