//! What nigh promises, one file each. Every promise is kept by real processes that talk over real
//! sockets; nothing is shared between two tests.

mod activation_is_atomic;
mod blob_corrupted_on_disk_is_healed;
mod bucket;
mod certificates_are_brought;
mod certificates_from_a_public_ca;
mod certificates_of_hosts_elsewhere;
mod control_is_gone;
mod control_is_lost;
mod demo;
mod disk_full_loses_nothing;
mod docs_commands;
mod drained_edge_serves_on;
mod edge_dies_and_dns_forgets_it;
mod edge_restarts_from_disk;
mod edges_bring_each_other_blobs;
mod garbage_is_collected_safely;
mod hosts_come_and_go;
mod join_tokens;
mod lagging_edge_is_left_out;
mod old_assets_stay_for_a_while;
mod only_changes_travel;
mod operations_pages;
mod preview_expires;
mod push_resumes;
mod push_then_serve;
mod real_tools;
mod releases_are_kept_and_deleted;
mod rollback;
mod tokens_and_sites;
mod trust_is_renewed;
mod two_pushes_at_once;
mod variants_arrive_later;
mod whole_site;
