//! What links carry and how long they take, by what is known of them: speed, width, generation, processor.
//!
//! Bandwidths are those of one direction, in GB/s (10^9 bytes a second), after line coding and before the headers of
//! packets. Latencies are what is usual; nothing declares them.

/// Bandwidth of what is no bottleneck, GB/s: NCCL's figure for a device and itself (`LOC_BW`, src/graph/topo.h).
pub const LOCAL_GB_PER_S: f64 = 5_000.0;

/// Time to cross one PCIe link and the port at its end, ns: a switch adds 100 to 150 from port to port.
pub const PCIE_NS: f64 = 150.0;
/// Time to a CXL memory device and back, ns: measured loads take 250 to 300 without a switch between.
pub const CXL_NS: f64 = 250.0;
/// Time to cross a link between packages, ns.
pub const SOCKET_NS: f64 = 100.0;
/// Time to cross a link of an accelerator's own, ns: half of what a copy through a switch of them takes.
pub const ACCELERATOR_NS: f64 = 350.0;
/// Time from a processor to an accelerator on its board, ns.
pub const COHERENT_NS: f64 = 200.0;
/// Time inside a chip, ns.
pub const INSIDE_NS: f64 = 10.0;

/// Speed and width of a PCIe link of which neither is known: Gen3 x16, which NCCL assumes too.
pub const USUAL_PCIE: (f64, u32) = (8.0, 16);

/// Bandwidth of a port that does not say its speed: 10 Gb/s, which NCCL assumes too.
pub const USUAL_PORT_GB_PER_S: f64 = 1.25;

/// Bandwidth of a PCIe link, GB/s: `gt_per_s` is the rate of one of its `width` lanes in GT/s.
///
/// Line coding: 8b/10b up to 5 GT/s, 128b/130b up to 32 GT/s, from 64 GT/s on flits of 256 bytes that carry 242
/// (PCI Express Base Specification 6.0, section 4.2).
pub fn pcie(gt_per_s: f64, width: u32) -> f64 {
    let coding = match gt_per_s {
        slow if slow < 8.0 => 8.0 / 10.0,
        middle if middle < 64.0 => 128.0 / 130.0,
        _ => 242.0 / 256.0,
    };
    gt_per_s * coding * f64::from(width) / 8.0
}

/// Bandwidth of one NVLink of a GPU of compute capability `sm` (90 is Hopper), GB/s: what copies reach, as NCCL has it
/// (src/graph/topo.h, `SM60_NVLINK_BW` and the following).
pub fn nvlink(sm: u32) -> f64 {
    match sm {
        60..70 => 18.0,
        86 => 12.0,
        90..100 => 20.6,
        100.. => 40.1,
        _ => 20.0,
    }
}

/// Bandwidth of one xGMI link of a GPU by its architecture, GB/s: `gfx942`, or `908` as older files have it. RCCL's
/// figures (src/graph/topo.h, `VEGA_XGMI_WIDTH`, `MI200_XGMI_WIDTH`, `GFX94X_XGMI_WIDTH`, `GFX95X_XGMI_WIDTH`).
pub fn xgmi(architecture: &str) -> f64 {
    let number = architecture.trim_start_matches("gfx");
    match number {
        "90a" | "910" => 36.0,
        _ if number.starts_with("94") || number.starts_with("95") => 48.0,
        _ => 24.0,
    }
}

/// Bandwidth between NUMA nodes by their processor, GB/s: NCCL's figures (src/graph/topo.h, `BDW_QPI_BW` and the
/// following). `arch`, `vendor`, `family` and `model` are those of NCCL's XML.
pub fn socket(arch: &str, vendor: &str, family: u32, model: u32) -> f64 {
    // NCCL's files have families above 15 as the two fields of the processor: 0xaf is family 15 + 10.
    let family = if family & 0xf == 0xf && family > 0x1f { 0xf + (family >> 4) } else { family };
    match (arch, vendor) {
        ("ppc64", _) => 32.0,
        ("arm64" | "aarch64", _) => 6.0,
        (_, "GenuineIntel") if family == 6 => match model {
            0xcf.. => 40.0,
            0x8f.. => 22.0,
            0x55.. => 10.0,
            _ => 6.0,
        },
        // Zen 1 and 2 are of family 23, 3 and 4 of family 25, 5 of family 26.
        (_, "AuthenticAMD") => match family {
            26.. => 32.0,
            25 => 24.0,
            _ => 16.0,
        },
        _ => 6.0,
    }
}

/// Time between NUMA nodes by the distance that the firmware states, ns. 10 is a node and itself; in the next package,
/// at about 20, a load takes 100 ns more.
pub fn socket_ns(distance: f64) -> f64 {
    (distance - 10.0).max(0.0) * SOCKET_NS / 10.0
}

/// Rate of a lane in sysfs' words, `16.0 GT/s PCIe` or `8 GT/s`, in GT/s; none when it is unknown.
///
/// # Errors
/// The text is neither a rate nor one of sysfs' words for an unknown one.
pub(crate) fn lane_rate(text: &str) -> Result<Option<f64>, ()> {
    let text = text.trim();
    if text.is_empty() || text.starts_with("Unknown") {
        return Ok(None);
    }
    let rate = text.split_once("GT/s").ok_or(())?.0.trim().parse::<f64>().map_err(|_| ())?;
    // Gen1 is the slowest there is; nothing above Gen9 is in sight.
    if (2.5..=512.0).contains(&rate) { Ok(Some(rate)) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pcie_loses_its_line_coding() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 0.001, "{a} {b}");
        near(pcie(2.5, 1), 0.25);
        near(pcie(8.0, 16), 15.754);
        near(pcie(16.0, 16), 31.508);
        near(pcie(32.0, 16), 63.015);
        near(pcie(64.0, 16), 121.0);
        near(pcie(16.0, 0), 0.0);
    }

    #[test]
    fn rates_are_read_or_refused() {
        assert_eq!(lane_rate("16.0 GT/s PCIe"), Ok(Some(16.0)));
        assert_eq!(lane_rate("8 GT/s"), Ok(Some(8.0)));
        assert_eq!(lane_rate("Unknown speed"), Ok(None));
        assert_eq!(lane_rate(""), Ok(None));
        for wrong in ["fast", "GT/s", "-1 GT/s", "inf GT/s", "1e9 GT/s", "NaN GT/s"] {
            assert_eq!(lane_rate(wrong), Err(()), "{wrong}");
        }
    }

    #[test]
    fn generations_differ() {
        assert_eq!((nvlink(70), nvlink(86), nvlink(90), nvlink(103)), (20.0, 12.0, 20.6, 40.1));
        assert_eq!(
            (xgmi("906"), xgmi("gfx90a"), xgmi("gfx942"), xgmi("gfx950")),
            (24.0, 36.0, 48.0, 48.0)
        );
        assert_eq!(socket("x86_64", "GenuineIntel", 6, 143), 22.0);
        assert_eq!(socket("x86_64", "GenuineIntel", 6, 85), 10.0);
        assert_eq!(socket("x86_64", "AuthenticAMD", 25, 17), 24.0);
        assert_eq!(socket("x86_64", "AuthenticAMD", 175, 1), 24.0);
        assert_eq!(socket("x86_64", "AuthenticAMD", 23, 49), 16.0);
        assert_eq!(socket("arm64", "", 0, 0), 6.0);
        assert_eq!(socket("", "", 0, 0), 6.0);
    }
}
