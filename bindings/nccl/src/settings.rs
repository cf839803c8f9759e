//! The fields of `ncclConfig_t` that came after NCCL 2.28, and what NCCL means by fields that `dureConfig_t` has too.

use std::ffi::c_int;

use dure::{Error, Result};
use dure_c::config::Fields;
use dure_c::ffi::config::{Further, set};

dure_c::fields! {
    /// The fields of `ncclConfig_t` that came with NCCL 2.29. They say how a GPU is used, and have no effect.
    pub(crate) OwnFields:
    graph_usage_mode: c_int, since 22_900;
    num_rma_ctx: c_int, since 22_900;
}

impl Further for OwnFields {
    const NCCL_VERSIONS: bool = true;

    fn add_to(&self, fields: Fields) -> Result<Fields> {
        for (field, value, first, last) in [
            ("graphUsageMode", self.graph_usage_mode, 0, 2),
            ("numRmaCtx", self.num_rma_ctx, 1, c_int::MAX),
        ] {
            if let Some(value) = set(value).filter(|value| !(first..=last).contains(value)) {
                let text = format!("config->{field} is {value} (allowed: {first} to {last})");
                return Err(Error::invalid_argument(text));
            }
        }
        let net_name = fields.net_name.as_deref().map(transports).transpose();
        let net_name =
            net_name.map_err(|why| Error::invalid_argument(format!("config->netName is {why}")))?;
        Ok(Fields { net_name: net_name.map(str::to_owned), ..fields })
    }
}

/// The transports of a network that NCCL has, as `DURE_TRANSPORT` has them. Inside a host it does not matter.
///
/// # Errors
/// The text is the name, and what it may be.
pub(crate) fn transports(network: &str) -> std::result::Result<&'static str, String> {
    match network.to_ascii_lowercase().as_str() {
        "socket" => Ok("^rdma"),
        "ib" => Ok("^tcp"),
        _ => Err(format!("\"{network}\" (allowed: Socket, IB)")),
    }
}

#[cfg(test)]
mod tests {
    use dure_c::ffi::config::Run as _;

    use super::*;

    fn net_name(name: &str) -> Result<Option<String>> {
        let fields = Fields { net_name: Some(name.to_owned()), ..Fields::default() };
        OwnFields::OPEN.add_to(fields).map(|fields| fields.net_name)
    }

    #[test]
    fn networks_are_transports() {
        assert_eq!(net_name("Socket").unwrap().unwrap(), "^rdma");
        assert_eq!(net_name("ib").unwrap().unwrap(), "^tcp");
        let error = net_name("pigeon").unwrap_err();
        assert_eq!(error.what, "config->netName is \"pigeon\" (allowed: Socket, IB)");
        assert_eq!(OwnFields::OPEN.add_to(Fields::default()).unwrap().net_name, None);
    }

    #[test]
    fn fields_of_2_29_are_checked() {
        let error = OwnFields { graph_usage_mode: 3, ..OwnFields::OPEN }.add_to(Fields::default());
        assert_eq!(error.unwrap_err().what, "config->graphUsageMode is 3 (allowed: 0 to 2)");
        let right = OwnFields { graph_usage_mode: 2, num_rma_ctx: 1 };
        assert!(right.add_to(Fields::default()).is_ok());
    }
}
