//! Environments as launchers leave them.

use super::*;

fn launch(dure: &[(&str, &str)], rest: &[(&str, &str)]) -> Result<Option<Launch>> {
    let config = Config::from_pairs(dure.iter().copied()).unwrap();
    Launch::from_pairs(
        &config,
        dure.iter().chain(rest).map(|&(name, value)| (name.to_owned(), value.to_owned())),
    )
}

fn found(dure: &[(&str, &str)], rest: &[(&str, &str)]) -> Launch {
    launch(dure, rest).unwrap().unwrap()
}

fn error(dure: &[(&str, &str)], rest: &[(&str, &str)]) -> String {
    launch(dure, rest).unwrap_err().what.clone()
}

/// torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d
const TORCHRUN: &[(&str, &str)] = &[
    ("LOCAL_RANK", "1"),
    ("RANK", "5"),
    ("GROUP_RANK", "1"),
    ("ROLE_RANK", "5"),
    ("LOCAL_WORLD_SIZE", "4"),
    ("WORLD_SIZE", "8"),
    ("MASTER_ADDR", "node1.cluster"),
    ("MASTER_PORT", "29500"),
    ("TORCHELASTIC_RESTART_COUNT", "0"),
    ("TORCHELASTIC_RUN_ID", "6f1c"),
    ("OMP_NUM_THREADS", "1"),
];

/// Open MPI 4.1.4: mpirun -n 2
const OPEN_MPI: &[(&str, &str)] = &[
    ("OMPI_COMM_WORLD_SIZE", "2"),
    ("OMPI_COMM_WORLD_RANK", "1"),
    ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
    ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
    ("OMPI_COMM_WORLD_NODE_RANK", "1"),
    ("OMPI_MCA_orte_hnp_uri", "3361275904.0;tcp://192.0.2.2:42357"),
    ("OMPI_MCA_ess_base_jobid", "3361275905"),
    ("PMIX_NAMESPACE", "3361275905"),
    ("PMIX_RANK", "1"),
];

/// MPICH 4.0.2: mpirun.mpich -n 2
const MPICH: &[(&str, &str)] = &[
    ("PMI_RANK", "1"),
    ("PMI_SIZE", "2"),
    ("PMI_FD", "9"),
    ("MPI_LOCALRANKID", "1"),
    ("MPI_LOCALNRANKS", "2"),
];

/// srun -N 2 -n 8
const SLURM: &[(&str, &str)] = &[
    ("SLURM_PROCID", "6"),
    ("SLURM_NTASKS", "8"),
    ("SLURM_LOCALID", "2"),
    ("SLURM_NODEID", "1"),
    ("SLURM_JOB_ID", "815"),
    ("SLURM_STEP_ID", "3"),
    ("SLURM_JOB_NODELIST", "n[001-003,007]"),
    ("SLURM_STEP_NODELIST", "n[002-003]"),
];

/// With one value changed, or a name taken away by an empty value.
fn with(
    base: &[(&'static str, &'static str)],
    name: &'static str,
    value: &'static str,
) -> Vec<(&'static str, &'static str)> {
    base.iter().copied().filter(|&(other, _)| other != name).chain([(name, value)]).collect()
}

#[test]
fn torchrun_meets_beside_its_own_store() {
    let launch = found(&[], TORCHRUN);
    assert_eq!((launch.launcher, launch.rank, launch.size), ("torchrun", 5, 8));
    assert_eq!((launch.local_rank, launch.local_size), (Some(1), Some(4)));
    assert_eq!(launch.root.as_deref(), Some("node1.cluster:29501"));
    let launch = found(&[], &with(TORCHRUN, "MASTER_ADDR", "fd00::1"));
    assert_eq!(launch.root.as_deref(), Some("[fd00::1]:29501"));
    assert_eq!(found(&[("DURE_ROOT", "a:7")], TORCHRUN).root.as_deref(), Some("a:7"));
}

#[test]
fn open_mpi_on_one_host_and_on_several() {
    let launch = found(&[], OPEN_MPI);
    assert_eq!(
        (launch.launcher, launch.rank, launch.size, launch.local_rank),
        ("Open MPI", 1, 2, Some(1))
    );
    let root = launch.root.clone().unwrap();
    let port: u64 = root.strip_prefix("127.0.0.1:").unwrap().parse().unwrap();
    assert!((20_000..30_000).contains(&port));
    assert_eq!(
        found(&[], &with(&with(OPEN_MPI, "OMPI_COMM_WORLD_RANK", "0"), "PMIX_RANK", "0")).root,
        launch.root
    );
    assert_ne!(found(&[], &with(OPEN_MPI, "PMIX_NAMESPACE", "3361275906")).root, launch.root);
    let several = with(OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE", "1");
    assert!(error(&[], &several).contains("set DURE_ROOT=HOST:PORT"));
    assert_eq!(found(&[("DURE_ROOT", "n1:7000")], &several).root.as_deref(), Some("n1:7000"));
}

#[test]
fn mpich_needs_a_place() {
    assert!(error(&[], MPICH).starts_with("MPICH does not say where the ranks can meet"));
    let launch = found(&[("DURE_ROOT", "n1:7000")], MPICH);
    assert_eq!((launch.launcher, launch.rank, launch.size), ("MPICH", 1, 2));
    assert_eq!((launch.local_rank, launch.local_size), (Some(1), Some(2)));
    assert_eq!(found(&[], &[("PMI_RANK", "0"), ("PMI_SIZE", "1")]).root, None);
}

#[test]
fn pmix_needs_a_size_and_a_place() {
    let pmix = [("PMIX_RANK", "2"), ("PMIX_NAMESPACE", "prterun-7@1")];
    assert!(error(&[], &pmix).contains("set DURE_SIZE"));
    let launch = found(&[("DURE_SIZE", "4"), ("DURE_ROOT", "n1:7000")], &pmix);
    assert_eq!((launch.launcher, launch.rank, launch.size), ("PMIx", 2, 4));
}

#[test]
fn slurm_meets_on_the_first_host_of_the_step() {
    let launch = found(&[], SLURM);
    assert_eq!(
        (launch.launcher, launch.rank, launch.size, launch.local_rank),
        ("Slurm", 6, 8, Some(2))
    );
    assert!(launch.root.as_ref().unwrap().starts_with("n002:2"));
    assert_ne!(found(&[], &with(SLURM, "SLURM_STEP_ID", "4")).root, launch.root);
    let job = with(SLURM, "SLURM_STEP_NODELIST", "");
    assert!(found(&[], &job).root.unwrap().starts_with("n001:2"));
    assert!(
        error(&[], &with(SLURM, "SLURM_STEP_NODELIST", "n["))
            .contains("SLURM_STEP_NODELIST=\"n[\"")
    );
}

#[test]
fn given_counts_before_everything_else() {
    let dure = [("DURE_RANK", "3"), ("DURE_SIZE", "4"), ("DURE_ROOT", "127.0.0.1:7000")];
    let launch = found(&dure, TORCHRUN);
    assert_eq!((launch.launcher, launch.rank, launch.size), ("given", 3, 4));
    assert_eq!(error(&dure[..2], &[]), "DURE_RANK and DURE_SIZE are set, but DURE_ROOT is not");
    assert_eq!(error(&dure[..1], &[]), "DURE_RANK is set, but DURE_SIZE is not");
    assert!(error(&dure[1..2], &[]).contains("DURE_RANK is not"));
}

#[test]
fn inner_launchers_count_before_outer_ones() {
    let both: Vec<_> = SLURM.iter().chain(MPICH).copied().collect();
    assert_eq!(found(&[("DURE_ROOT", "n1:7000")], &both).launcher, "MPICH");
    let agents: Vec<_> = TORCHRUN.iter().chain(OPEN_MPI).copied().collect();
    assert_eq!(found(&[], &agents).launcher, "torchrun");
}

#[test]
fn contradictions_and_gaps_name_the_variables() {
    let plain = with(TORCHRUN, "TORCHELASTIC_RUN_ID", "");
    let both: Vec<_> = plain.iter().chain(OPEN_MPI).copied().collect();
    assert_eq!(error(&[], &both), "RANK=5 contradicts OMPI_COMM_WORLD_RANK=1");
    assert_eq!(
        error(&[], &with(OPEN_MPI, "PMIX_RANK", "0")),
        "OMPI_COMM_WORLD_RANK=1 contradicts PMIX_RANK=0"
    );
    assert_eq!(error(&[], &with(TORCHRUN, "RANK", "8")), "RANK=8 is not below WORLD_SIZE=8");
    assert_eq!(
        error(&[("DURE_SIZE", "4")], TORCHRUN),
        "DURE_SIZE=4 contradicts WORLD_SIZE=8 of torchrun"
    );
    assert_eq!(error(&[], &with(TORCHRUN, "RANK", "x")), "RANK=\"x\" is not a whole number");
    assert_eq!(
        error(&[], &with(TORCHRUN, "MASTER_PORT", "")),
        "MASTER_PORT is not set, and neither is DURE_ROOT"
    );
    assert_eq!(
        error(&[], &with(SLURM, "SLURM_NTASKS", "")),
        "SLURM_PROCID is set, but SLURM_NTASKS is not"
    );
    assert_eq!(launch(&[], &[("PATH", "/bin"), ("RANK", "3")]).unwrap(), None);
}

#[test]
fn the_id_follows_from_place_and_secret() {
    let local = with(TORCHRUN, "MASTER_ADDR", "127.0.0.1");
    let id = |dure: &[(&str, &str)], rest: &[(&str, &str)]| {
        found(dure, rest).unique_id().unwrap().unwrap()
    };
    let other = with(&local, "TORCHELASTIC_RUN_ID", "7777");
    assert_eq!(id(&[], &local), id(&[], &with(&local, "RANK", "0")));
    assert_ne!(id(&[], &local), id(&[], &other));
    assert_eq!(id(&[("DURE_SECRET", "s")], &local), id(&[("DURE_SECRET", "s")], &other));
    let text = UniqueId::from_root("127.0.0.1:7", "x").unwrap().to_string();
    assert_eq!(id(&[("DURE_ROOT", &text)], &local).to_string(), text);
    assert!(!format!("{:?}", found(&[("DURE_SECRET", "hunter2")], &local)).contains("hunter2"));
}
