//! The states of a reliable connection's queue pair, and what each step between them needs.

use std::fmt;
use std::io;

use rdma_sys::ibv_qp_attr_mask as Mask;
use rdma_sys::ibv_qp_state;

use crate::error::Error;

/// A state that queue pairs are brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// As it was made: forgets all that was posted.
    Reset,
    /// Initialised: knows its port and who may do what.
    Init,
    /// Ready to receive: knows the peer and the way there.
    Rtr,
    /// Ready to send: knows how to repeat.
    Rts,
    /// Failed or given up: what is posted is flushed.
    Err,
}

impl State {
    pub(crate) fn number(self) -> ibv_qp_state::Type {
        match self {
            Self::Reset => ibv_qp_state::IBV_QPS_RESET,
            Self::Init => ibv_qp_state::IBV_QPS_INIT,
            Self::Rtr => ibv_qp_state::IBV_QPS_RTR,
            Self::Rts => ibv_qp_state::IBV_QPS_RTS,
            Self::Err => ibv_qp_state::IBV_QPS_ERR,
        }
    }

    /// What must be given to get here: the state itself, and the attributes that the specification requires of a reliable
    /// connection (InfiniBand specification, volume 1, table 91 "QP state transition properties"; man ibv_modify_qp).
    pub(crate) fn required(self) -> &'static [(Mask, &'static str)] {
        match self {
            Self::Init => &[
                (Mask::IBV_QP_STATE, "qp_state"),
                (Mask::IBV_QP_PKEY_INDEX, "pkey_index"),
                (Mask::IBV_QP_PORT, "port_num"),
                (Mask::IBV_QP_ACCESS_FLAGS, "qp_access_flags"),
            ],
            Self::Rtr => &[
                (Mask::IBV_QP_STATE, "qp_state"),
                (Mask::IBV_QP_AV, "ah_attr"),
                (Mask::IBV_QP_PATH_MTU, "path_mtu"),
                (Mask::IBV_QP_DEST_QPN, "dest_qp_num"),
                (Mask::IBV_QP_RQ_PSN, "rq_psn"),
                (Mask::IBV_QP_MAX_DEST_RD_ATOMIC, "max_dest_rd_atomic"),
                (Mask::IBV_QP_MIN_RNR_TIMER, "min_rnr_timer"),
            ],
            Self::Rts => &[
                (Mask::IBV_QP_STATE, "qp_state"),
                (Mask::IBV_QP_SQ_PSN, "sq_psn"),
                (Mask::IBV_QP_TIMEOUT, "timeout"),
                (Mask::IBV_QP_RETRY_CNT, "retry_cnt"),
                (Mask::IBV_QP_RNR_RETRY, "rnr_retry"),
                (Mask::IBV_QP_MAX_QP_RD_ATOMIC, "max_rd_atomic"),
            ],
            Self::Reset | Self::Err => &[(Mask::IBV_QP_STATE, "qp_state")],
        }
    }

    /// All required attributes at once.
    pub(crate) fn mask(self) -> i32 {
        let bits = self.required().iter().fold(0, |bits, (mask, _)| bits | mask.0);
        i32::try_from(bits).expect("the flags of attributes are below the sign")
    }

    /// Names of required attributes that a mask leaves out.
    fn missing(self, mask: i32) -> Vec<&'static str> {
        let given = |bit: &Mask| mask.cast_unsigned() & bit.0 != 0;
        let left_out = self.required().iter().filter(|(bit, _)| !given(bit));
        left_out.map(|(_, name)| *name).collect()
    }

    /// Why a step to this state failed: attributes that are missing, or those that the error number speaks of.
    pub(crate) fn explain(self, on: String, mask: i32, source: io::Error) -> Error {
        let missing = self.missing(mask);
        let errno = source.raw_os_error().unwrap_or(0);
        let why = if !missing.is_empty() {
            format!("it needs {} besides", missing.join(", "))
        } else {
            self.suspects(errno).to_owned()
        };
        Error::Transition { on, to: self, why, source }
    }

    /// The attributes to look at when none is missing.
    fn suspects(self, errno: i32) -> &'static str {
        match (self, errno) {
            (
                Self::Rtr,
                libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::ETIMEDOUT
                | libc::EADDRNOTAVAIL
                | libc::ENODATA,
            ) => {
                "ah_attr: no way from the local GID to the peer's; choose another with DURE_GID_INDEX, or see to the route between the two"
            }
            (Self::Rtr, libc::EINVAL | libc::ENOENT) => {
                "look at ah_attr (GID index, LID, port), path_mtu (not above the port's) and dest_qp_num"
            }
            (Self::Init, libc::EINVAL) => "look at port_num, pkey_index and qp_access_flags",
            (Self::Rts, libc::EINVAL) => {
                "look at timeout (0 to 31), retry_cnt and rnr_retry (0 to 7) and max_rd_atomic (not above the device's)"
            }
            (_, libc::EPERM | libc::EACCES) => "this process may not",
            (_, libc::ENODEV | libc::EIO) => "the device is gone",
            _ => "all attributes that it needs were given",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "RESET",
            Self::Init => "INIT",
            Self::Rtr => "RTR (ready to receive)",
            Self::Rts => "RTS (ready to send)",
            Self::Err => "ERR",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(state: State, mask: i32, errno: i32) -> String {
        let error = state.explain("QP 7".to_owned(), mask, io::Error::from_raw_os_error(errno));
        error.to_string()
    }

    #[test]
    fn every_missing_attribute_is_named() {
        for state in [State::Reset, State::Init, State::Rtr, State::Rts, State::Err] {
            for (bit, name) in state.required() {
                let text = explain(state, state.mask() & !bit.0.cast_signed(), libc::EINVAL);
                assert!(text.contains(&format!("it needs {name} besides")), "{text}");
            }
        }
    }

    #[test]
    fn a_complete_mask_blames_what_the_error_speaks_of() {
        let text = explain(State::Rtr, State::Rtr.mask(), libc::ENETUNREACH);
        assert!(
            text.contains("DURE_GID_INDEX") && text.contains("QP 7") && text.contains("RTR"),
            "{text}"
        );
        assert!(explain(State::Rts, State::Rts.mask(), libc::EINVAL).contains("retry_cnt"));
    }
}
