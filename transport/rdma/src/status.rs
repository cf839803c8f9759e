//! What each status of a completion means to whoever reads a log, and what usually causes it.

use std::fmt::Write as _;

/// One `ibv_wc_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Name in the header.
    pub(crate) name: &'static str,
    /// What happened (InfiniBand specification, volume 1, 10.10.3 "Completion return status"; man ibv_poll_cq).
    pub(crate) meaning: &'static str,
    causes: &'static [&'static str],
}

/// What is known about a connection that failed; it changes which cause is the likeliest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Whether the peer has ever acknowledged anything on this queue pair.
    pub acknowledged: bool,
    /// Whether counters of damaged or dropped packets moved.
    pub link_errors: bool,
    /// Whether what failed is longer than the path MTU, while only shorter messages have got through.
    pub large: bool,
}

const GID: &str = "wrong GID: the addresses do not reach one another (index, VLAN, RoCE version, route or firewall on UDP port 4791); try DURE_GID_INDEX";
const MTU: &str = "MTU mismatch: packets of the path MTU do not pass an interface or a switch on the way; compare them with ping -M do -s";
const PFC: &str = "PFC or cable: a lossy link; look at the counters of port and switch, and at PFC and ECN on the way";
const DIED: &str = "the peer died, or its host lost power or network";
const REGISTERED: &str = "memory was released or its key revoked while it was still in use";
const OURS: &str = "a fault of this library: please report it with this line";
const DEVICE: &str = "the device or its firmware failed; see dmesg and the vendor's tools";
const VERSIONS: &str = "the two sides run different versions of this library";

const STATUSES: [Status; 24] = [
    Status { name: "IBV_WC_SUCCESS", meaning: "it succeeded", causes: &["none"] },
    Status {
        name: "IBV_WC_LOC_LEN_ERR",
        meaning: "the message is longer than the local queue pair takes",
        causes: &["longer than the port's max_msg_sz", OURS],
    },
    Status {
        name: "IBV_WC_LOC_QP_OP_ERR",
        meaning: "the local queue pair cannot carry this out",
        causes: &[OURS, DEVICE],
    },
    Status {
        name: "IBV_WC_LOC_EEC_OP_ERR",
        meaning: "the local end-to-end context cannot carry this out",
        causes: &[DEVICE],
    },
    Status {
        name: "IBV_WC_LOC_PROT_ERR",
        meaning: "the local memory of the request is not registered, or not for this",
        causes: &[REGISTERED, "a fork left registered memory to the child", OURS],
    },
    Status {
        name: "IBV_WC_WR_FLUSH_ERR",
        meaning: "the queue pair had failed before and gave this request back undone",
        causes: &[
            "an earlier request on this queue pair failed: its line says why",
            "this side gave the connection up",
        ],
    },
    Status {
        name: "IBV_WC_MW_BIND_ERR",
        meaning: "a memory window could not be bound",
        causes: &[OURS],
    },
    Status {
        name: "IBV_WC_BAD_RESP_ERR",
        meaning: "the peer's answer makes no sense",
        causes: &["packets were changed on the way", DEVICE],
    },
    Status {
        name: "IBV_WC_LOC_ACCESS_ERR",
        meaning: "a received message could not be written to local memory",
        causes: &[REGISTERED, OURS],
    },
    Status {
        name: "IBV_WC_REM_INV_REQ_ERR",
        meaning: "the peer's device calls the request invalid",
        causes: &[
            "the peer's queue pair does not allow this operation, or not this length",
            VERSIONS,
            OURS,
        ],
    },
    Status {
        name: "IBV_WC_REM_ACCESS_ERR",
        meaning: "the peer does not let this side write there",
        causes: &[
            "the peer released the memory, or never exposed it",
            "the key is of another device or another run of the peer",
            OURS,
        ],
    },
    Status {
        name: "IBV_WC_REM_OP_ERR",
        meaning: "the peer's device could not carry the request out",
        causes: &[
            "the peer's device or its firmware failed; see dmesg there",
            "memory behind the peer's region is gone",
        ],
    },
    Status {
        name: "IBV_WC_RETRY_EXC_ERR",
        meaning: "the peer acknowledged nothing, however often it was sent",
        causes: &[GID, MTU, PFC, DIED],
    },
    Status {
        name: "IBV_WC_RNR_RETRY_EXC_ERR",
        meaning: "the peer had no receive posted, however often it was asked",
        causes: &[
            "the peer does not poll: it is stopped, or computes for very long",
            "its shared receive queue is too short for so many peers",
        ],
    },
    Status {
        name: "IBV_WC_LOC_RDD_VIOL_ERR",
        meaning: "the local reliable datagram domains differ",
        causes: &[OURS],
    },
    Status {
        name: "IBV_WC_REM_INV_RD_REQ_ERR",
        meaning: "the peer calls the reliable datagram invalid",
        causes: &[OURS],
    },
    Status {
        name: "IBV_WC_REM_ABORT_ERR",
        meaning: "the peer gave the operation up",
        causes: &["the peer's device was reset or taken away"],
    },
    Status {
        name: "IBV_WC_INV_EECN_ERR",
        meaning: "there is no such end-to-end context",
        causes: &[OURS],
    },
    Status {
        name: "IBV_WC_INV_EEC_STATE_ERR",
        meaning: "the end-to-end context is in the wrong state",
        causes: &[OURS],
    },
    Status { name: "IBV_WC_FATAL_ERR", meaning: "the device failed", causes: &[DEVICE] },
    Status {
        name: "IBV_WC_RESP_TIMEOUT_ERR",
        meaning: "the answer did not come in time",
        causes: &[GID, PFC, DIED],
    },
    Status {
        name: "IBV_WC_GENERAL_ERR",
        meaning: "the device reports an error that has no status of its own",
        causes: &[DEVICE, "see the vendor code"],
    },
    Status { name: "IBV_WC_TM_ERR", meaning: "tag matching failed", causes: &[OURS] },
    Status {
        name: "IBV_WC_TM_RNDV_INCOMPLETE",
        meaning: "a rendezvous of tag matching is not complete",
        causes: &[OURS],
    },
];

const UNKNOWN: Status = Status {
    name: "an unknown status",
    meaning: "the device reports what this version does not know",
    causes: &["a newer libibverbs: see its ibv_wc_status"],
};

/// What is known of a status by its number.
pub(crate) fn explain(status: u32) -> &'static Status {
    usize::try_from(status).ok().and_then(|at| STATUSES.get(at)).unwrap_or(&UNKNOWN)
}

/// The likely causes of a status, the likeliest first.
pub(crate) fn causes(status: u32, evidence: Evidence) -> Vec<&'static str> {
    let mut causes = explain(status).causes.to_vec();
    let weight = |cause: &&str| match *cause {
        // What has worked once has a way; what has not, mostly has none.
        GID => u8::from(evidence.acknowledged) * 4,
        MTU => {
            if evidence.large {
                0
            } else {
                2 + u8::from(evidence.acknowledged)
            }
        }
        PFC => {
            if evidence.link_errors {
                0
            } else {
                3
            }
        }
        DIED => 3 - u8::from(evidence.acknowledged),
        _ => 2,
    };
    if causes.contains(&GID) {
        causes.sort_by_key(weight);
    }
    causes
}

/// The table of all statuses, as `docs/rdma-errors.md` holds it.
pub fn documentation() -> String {
    let mut text = String::from(
        "# Errors of RDMA\n\n\
         When a work request fails, the error names it, both ends (device, port, queue pair, GID or LID), the path MTU, the\n\
         status with its meaning, the vendor's code, the counters of the local port that moved since it was opened, and the likely\n\
         causes in order. This table holds what is said for each `ibv_wc_status`. The order of the causes depends on what is\n\
         known: below it is that of a connection that never worked; where the peer has acknowledged something before, that it died\n\
         comes before wrong addresses; where counters of damaged packets moved, the link comes first.\n\n\
         A put into memory that the peer has released ends the connection on both sides: the peer is told over the side\n\
         channel, and reports that the protocol was broken.\n\n\
         | number | status | meaning | likely causes |\n|---|---|---|---|\n",
    );
    for (number, status) in (0..).zip(&STATUSES) {
        let causes = causes(number, Evidence::default());
        let causes: Vec<_> =
            causes.iter().zip(1..).map(|(cause, at)| format!("{at}. {cause}")).collect();
        writeln!(
            text,
            "| {number} | `{}` | {} | {} |",
            status.name,
            status.meaning,
            causes.join("; ")
        )
        .expect("strings take all text");
    }
    text.push_str(
        "\nA queue pair that cannot be brought to its next state is reported with the attribute that is missing or that the error\n\
         number speaks of; a verb that fails, with what to look at (locked memory, permission of `/dev/infiniband`, limits of the\n\
         device).\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use rdma_sys::ibv_wc_status;

    use super::*;

    #[test]
    fn numbers_are_those_of_the_header() {
        for (number, name) in [
            (ibv_wc_status::IBV_WC_WR_FLUSH_ERR, "IBV_WC_WR_FLUSH_ERR"),
            (ibv_wc_status::IBV_WC_REM_ACCESS_ERR, "IBV_WC_REM_ACCESS_ERR"),
            (ibv_wc_status::IBV_WC_RETRY_EXC_ERR, "IBV_WC_RETRY_EXC_ERR"),
            (ibv_wc_status::IBV_WC_RNR_RETRY_EXC_ERR, "IBV_WC_RNR_RETRY_EXC_ERR"),
            (ibv_wc_status::IBV_WC_GENERAL_ERR, "IBV_WC_GENERAL_ERR"),
            (ibv_wc_status::IBV_WC_TM_RNDV_INCOMPLETE, "IBV_WC_TM_RNDV_INCOMPLETE"),
        ] {
            assert_eq!(explain(number).name, name);
        }
        assert_eq!(explain(1000).name, "an unknown status");
    }

    #[test]
    fn the_order_of_causes_follows_the_evidence() {
        let first = |evidence| causes(12, evidence)[0];
        assert_eq!(causes(12, Evidence::default()), [GID, MTU, PFC, DIED]);
        assert_eq!(first(Evidence { acknowledged: true, ..Evidence::default() }), DIED);
        assert_eq!(first(Evidence { link_errors: true, acknowledged: true, large: false }), PFC);
        assert_eq!(first(Evidence { large: true, acknowledged: true, link_errors: false }), MTU);
    }

    #[test]
    fn documentation_is_up_to_date() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .unwrap()
            .join("docs/rdma-errors.md");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            text == documentation(),
            "docs/rdma-errors.md differs from the table in status.rs; it should be:\n{}",
            documentation()
        );
    }
}
