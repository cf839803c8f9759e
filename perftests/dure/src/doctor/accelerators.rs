//! GPUs and NPUs.

use super::{Finding, Host, Level};

pub(super) fn gpus(host: &Host) -> Finding {
    const NAME: &str = "GPUs";
    let nvidia = host.names("proc/driver/nvidia/gpus", &[""]).len();
    // Nodes of GPUs have numbers; nvidiactl and nvidia-uvm do not.
    let nodes = host.names("dev", &["nvidia"]);
    let nodes = nodes.iter().filter(|name| name["nvidia".len()..].parse::<u32>().is_ok()).count();
    let amd = host.exists("dev/kfd");
    if nvidia > 0 && nodes == 0 {
        return Finding::new(
            NAME,
            Level::Limited,
            format!("{nvidia} by NVIDIA, no device nodes"),
            "this process cannot open them",
        )
        .remedy("start the container with --gpus all");
    }
    let mut found = Vec::new();
    if nvidia.max(nodes) > 0 {
        found.push(format!("{} by NVIDIA", nvidia.max(nodes)));
    }
    if amd {
        found.push("/dev/kfd of AMD".to_owned());
    }
    if found.is_empty() {
        return Finding::new(NAME, Level::Absent, "none", "buffers are in host memory");
    }
    let text = if amd && found.len() == 1 {
        "no support for these is built in: a device plug-in may bring it"
    } else {
        "see CUDA below for those by NVIDIA"
    };
    Finding::new(NAME, Level::Ok, found.join(", "), text)
}

/// The plug-in that is built in, and why it is idle. Only the driver can tell: it is asked where it runs.
pub(super) fn cuda(host: &Host) -> Finding {
    const NAME: &str = "CUDA";
    let idle = if host.is_this() {
        dure::devices::why_no_cuda()
    } else {
        Some("the driver of another host cannot be asked".to_owned())
    };
    match idle {
        Some(why) => Finding::new(NAME, Level::Absent, "idle", why),
        None => {
            let text = "DURE_DEVICE=cuda:0 has calls use the first: see dure device list";
            Finding::new(NAME, Level::Ok, "the driver serves", text)
        }
    }
}

pub(super) fn npus(host: &Host) -> Finding {
    const NAME: &str = "NPUs";
    let rebellions = host.names("dev", &["rbln"]);
    let furiosa = host.names("dev/rngd", &["npu"]);
    let found: Vec<String> = rebellions
        .iter()
        .map(|name| format!("/dev/{name}"))
        .chain((!furiosa.is_empty()).then(|| format!("/dev/rngd with {} nodes", furiosa.len())))
        .collect();
    if found.is_empty() {
        return Finding::new(NAME, Level::Absent, "none", "buffers are in host memory");
    }
    Finding::new(
        NAME,
        Level::Limited,
        found.join(", "),
        "used through a device plug-in, if one is given to the library",
    )
}

/// Plug-ins where the library looks for them by itself.
pub(super) fn plugins(host: &Host) -> Finding {
    const NAME: &str = "device plug-ins";
    let mut found = host.names(dure::devices::FOLDER, &[""]);
    found.retain(|name| name.ends_with(".so"));
    if found.is_empty() {
        let text = "devices are used only if DURE_DEVICE_PLUGINS names plug-ins";
        return Finding::new(
            NAME,
            Level::Absent,
            format!("none in {}", dure::devices::FOLDER),
            text,
        );
    }
    Finding::new(
        NAME,
        Level::Ok,
        found.join(", "),
        "DURE_DEVICE chooses devices: see dure device list",
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::Tree;
    use super::*;

    #[test]
    fn gpus_with_and_without_nodes() {
        let files = [
            ("proc/driver/nvidia/gpus/0000:01:00.0/information", ""),
            ("dev/nvidia0", ""),
            ("dev/nvidiactl", ""),
        ];
        assert_eq!(gpus(&Tree::new(&files).host()).state, "1 by NVIDIA");
        assert!(gpus(&Tree::new(&files[..1]).host()).state.contains("no device nodes"));
        assert_eq!(gpus(&Tree::new(&files[2..]).host()).level, Level::Absent);
        assert!(gpus(&Tree::new(&[("dev/kfd", "")]).host()).state.contains("AMD"));
    }

    #[test]
    fn the_driver_is_asked_on_this_host_only() {
        let finding = cuda(&Tree::new(&[("dev/nvidia0", "")]).host());
        assert_eq!((finding.level, &*finding.state), (Level::Absent, "idle"));
    }

    #[test]
    fn plug_ins_are_libraries_in_their_folder() {
        let files = [("usr/lib/dure/devices/libnpu_b.so", ""), ("usr/lib/dure/devices/README", "")];
        assert_eq!(plugins(&Tree::new(&files).host()).state, "libnpu_b.so");
        assert_eq!(plugins(&Tree::new(&files[1..]).host()).level, Level::Absent);
    }

    #[test]
    fn npu_nodes() {
        let host = Tree::new(&[("dev/rbln0", ""), ("dev/rbln1", ""), ("dev/rngd/npu0mgmt", "")]);
        assert_eq!(npus(&host.host()).state, "/dev/rbln0, /dev/rbln1, /dev/rngd with 1 nodes");
        assert_eq!(npus(&Tree::new(&[]).host()).level, Level::Absent);
    }
}
