# SPDX-License-Identifier: MIT
"""Which tests, named after it, show each lesson of the field: T (trust, sessions), L (life), R (routing)."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]

SHOWN = {
    "T1 no relay reads DATA, nothing of it in a log": [
        "node/test_memory_mesh.py::test_field_t1_no_byte_of_the_payload_is_readable_at_the_relay",
        "endtoend/test_datagrams.py::test_field_t1_relay_sees_no_payload",
        "live/test_node_service.py::test_field_t1_json_for_the_journal_and_metrics",
        "test_conftest.py::test_field_t1_what_is_left_fails",
    ],
    "T2 the sender is who sealed": [
        "endtoend/test_datagrams.py::test_field_t2_delivers_with_identity",
        "endtoend/test_hostile_relay.py::test_field_t2_frame_of_another_source",
    ],
    "T3 delivered once, replays counted": [
        "node/test_memory_mesh.py::test_field_t3_a_replayed_frame_is_delivered_once_and_counted",
        "endtoend/test_hostile_relay.py::test_field_t3_replayed_frame",
    ],
    "T4 a stranger is refused before any payload": [
        "endtoend/test_hostile_relay.py::test_field_t4_certificate_of_another_authority",
        "mesh/test_noise.py::test_field_t4_each_check_refuses_with_its_reason",
    ],
    "T5 a revocation stops traffic, its number is shown everywhere": [
        "field/test_field_life.py::test_field_t5_a_revoked_node_is_cut_and_every_node_shows_the_new_number",
    ],
    "T6 session, queues, routes and handshakes go in one turn": [
        "endtoend/test_association.py::test_field_t6_revocation_cuts_in_the_same_turn",
        "mesh/test_route_updates.py::test_field_t6_revocation_in_one_turn",
        "mesh/test_noise.py::test_field_t6_revocation_at_each_step_leaves_nothing",
    ],
    "T7 an end of a certificate cuts, a renewal before it does not": [
        "mesh/test_link.py::test_field_t7_an_expired_certificate_ends_the_link",
        "endtoend/test_association.py::test_field_t7_expiry_cuts",
        "endtoend/test_association.py::test_field_t7_renewal_saves_a_session",
    ],
    "T8 idle sockets have a deadline and a cap": [
        "mesh/test_noise.py::test_field_t8_half_open_handshakes_are_capped_in_total_and_by_address",
        "mesh/test_noise.py::test_field_t8_silence_has_a_deadline",
        "live/test_strangers.py::test_field_t8_silent_sockets_and_a_flood_of_bad_handshakes_do_not_slow_good_nodes",
    ],
    "T9 a silent peer delays nothing": [
        "field/test_field_life.py::test_field_t9_a_peer_that_never_answers_delays_nothing",
        "mesh/test_dialler.py::test_field_t9_a_silent_address_delays_nobody",
    ],
    "T10 exactly one working link to a node": [
        "mesh/test_neighbours.py::test_field_t10_a_kept_link_that_is_dead_is_found_out_by_the_duplicate",
        "mesh/test_neighbours.py::test_field_t10_simultaneous_dials_end_with_one_link_in_every_interleaving",
    ],
    "T11 too large is refused at the edge, the link lives": [
        "endtoend/test_datagrams.py::test_field_t11_sizes"
    ],
    "T12 signature first, one answer before it holds": [
        "authority/test_auth.py::test_field_t12_test_unsigned_requests_are_refused"
    ],
    "T13 a signature fits one route only": [
        "authority/test_auth.py::test_field_t13_a_signed_request_fits_one_route_only"
    ],
    "T14 the invite pins the genesis": [
        "cli/test_join.py::test_field_t14_nothing_is_spent_on_another_network"
    ],
    "T15 control by signed policy and the issuer's key": [
        "node/test_control.py::test_field_t15_forged_and_unauthorised_commands",
        "node/test_control.py::test_field_t15_a_policy_that_comes_later_allows_it",
    ],
    "T16 readiness tells ready or not, numbers have a listener of their own": [
        "authority/test_field_rows.py::test_field_t16_readiness_tells_nothing_of_the_inside",
        "node/test_configuration.py::test_field_t16_metrics_are_for_this_host_unless_it_is_said_otherwise",
    ],
    "T17 bounds under churn, limits and nonces over a restart": [
        "routing/test_simulated_churn.py::test_field_t17_ten_thousand_churn_events_stay_bounded",
        "mesh/test_neighbours.py::test_field_t17_connects_and_drops_leave_nothing",
        "authority/test_replay.py::test_field_t17_a_clock_set_back_lets_nothing_in_again",
    ],
    "T18 roles are a closed list, checked whole": ["trust/test_documents.py::test_field_t18_roles"],
    "L1 a restarted relay heals": [
        "field/test_field_life.py::test_field_l1_a_restarted_relay_is_back_within_ten_seconds"
    ],
    "L2 renewal is persisted before use": [
        "field/test_field_life.py::test_field_l2_a_renewal_survives_a_restart",
        "node/test_local_member.py::test_field_l2_a_renewed_certificate_is_used_only_once_stored",
    ],
    "L3 tries for ever": [
        "node/test_heartbeat.py::test_field_l3_an_outage_heals_by_itself",
        "node/test_unattended.py::test_field_l3_back_within_two_minutes",
    ],
    "L4 boots and serves without authority": [
        "live/test_node_daemon.py::test_field_l4_l6_boots_routes_and_serves_without_its_authority"
    ],
    "L5 joining again spends nothing": [
        "cli/test_join.py::test_field_l5_enrolled_host_spends_nothing",
        "authority/test_enrolment.py::test_field_l5_the_same_join_again_gets_the_same_certificate",
    ],
    "L6 notify, watchdog, never exits for an absent authority": [
        "live/test_node_daemon.py::test_field_l6_socket_mode_signals_and_notify",
        "live/test_node_service.py::test_field_l6_a_life_under_a_service_manager",
        "live/test_node_daemon.py::test_field_l4_l6_boots_routes_and_serves_without_its_authority",
    ],
    "L7 everybody known within one flood": [
        "field/test_field_life.py::test_field_l7_everybody_knows_everybody_in_a_chain",
        "cli/test_doctor_reach.py::test_field_l7_listening",
    ],
    "L8 a send says what became of it": [
        "field/test_field_life.py::test_field_l8_the_result_of_a_send_is_what_became_of_it",
        "cli/test_node.py::test_field_l8_refused_send",
    ],
    "L9 every metric moves": ["node/test_metrics.py::test_field_l9_every_metric_moves"],
    "L10 the audit chain goes on, failures are counted": [
        "authority/test_field_rows.py::test_field_l10_the_audit_chain_goes_on_after_a_restart",
        "authority/test_field_rows.py::test_field_l10_failures_are_counted_and_write_no_rows",
    ],
    "L11 commands over several hops, once, with a receipt": [
        "node/test_control.py::test_field_l11_r6_a_command_reaches_every_node_and_is_answered_within_five_seconds",
        "node/test_control.py::test_field_l11_obeyed_once_over_a_restart",
        "node/test_tap.py::test_field_l11_the_shutdown_command_ends_the_process",
    ],
    "L12 a changed policy changes behaviour": [
        "node/test_policy_changes.py::test_field_l12_rules_services_and_roles",
        "node/test_policy_changes.py::test_field_l12_max_hops",
        "node/test_policy_changes.py::test_field_l12_min_version",
        "node/test_policy_changes.py::test_field_l12_stale_grace",
    ],
    "R1 unreachable is known in time": [
        "field/test_field_life.py::test_field_r1_a_silent_death_is_known_within_sixteen_seconds",
        "field/test_field_life.py::test_field_r1_a_closed_socket_is_known_within_a_second",
    ],
    "R2 no loop": [
        "mesh/test_forwarding.py::test_field_r2_no_frame_visits_a_node_twice",
        "routing/test_simulated_traffic_attacks.py::test_field_r2_no_frame_loops_among_liars_and_stale_databases",
    ],
    "R3 nobody speaks for another": [
        "routing/test_simulated_liars.py::test_field_r3_forged_and_altered_records_are_refused",
        "routing/test_simulated_liars.py::test_field_r3_a_one_sided_link_is_none",
    ],
    "R4 one record a member, certified keys only": [
        "routing/test_database.py::test_field_r4_full",
        "routing/test_database.py::test_field_r4_key_of_another_node",
    ],
    "R5 stable choice, cheapest path, repair at once": [
        "routing/test_paths.py::test_field_r5_ties_do_not_depend_on_order",
        "routing/test_paths.py::test_field_r5_costs_equal_dijkstra",
        "mesh/test_forwarding.py::test_field_r5_splice_around_a_lost_link",
    ],
    "R6 commands flood and act locally too": [
        "node/test_control.py::test_field_l11_r6_a_command_reaches_every_node_and_is_answered_within_five_seconds"
    ],
    "R7 back-pressure, drops counted": [
        "mesh/test_local_senders.py::test_field_r7_a_local_sender_is_paused_and_loses_nothing",
        "mesh/test_forwarding.py::test_field_r7_full_queue_is_told",
    ],
    "R8 a CRL forgets, is pulled in pieces, is a set": [
        "authority/test_revocations.py::test_field_r8_test_crl_forgets_what_could_not_be_renewed_any_more",
        "mesh/test_gossip_pulls.py::test_field_r8_large_document_is_pulled_in_pieces",
    ],
    "R9 pages, no scans": [
        "authority/test_members.py::test_field_r9_test_pages",
        "authority/test_request_log.py::test_field_r9_test_metrics_do_not_look_into_the_database",
    ],
}


def test_every_row_is_shown() -> None:
    """T1 to T18, L1 to L12, R1 to R9."""
    rows = {f"{letter}{n}" for letter, last in (("T", 18), ("L", 12), ("R", 9)) for n in range(1, last + 1)}
    assert {row.split()[0] for row in SHOWN} == rows


def test_every_test_is_named_after_its_rows() -> None:
    """So C{pytest -k field_t5} runs what shows T5; and none is so named that the table does not know."""
    rows: dict[str, list[str]] = {}
    for title, tests in SHOWN.items():
        for test in tests:
            rows.setdefault(test, []).append(title.split()[0].lower())
    assert [
        test for test, its in rows.items() if not _name(test).startswith(f"test_field_{'_'.join(its)}_")
    ] == []
    there = {
        f"{file.relative_to(TESTS)}::{name}"
        for file in TESTS.rglob("test_*.py")
        for name in re.findall(r"def (test_field_[tlr]\d+_\w+)\(", file.read_text(encoding="utf-8"))
    }
    assert there == set(rows)


def _name(test: str) -> str:
    return test.partition("::")[2]
