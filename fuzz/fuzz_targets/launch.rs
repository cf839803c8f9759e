//! The environments that launchers leave.
#![no_main]

use dure::{Config, Launch};
use libfuzzer_sys::fuzz_target;

/// Every variable that is read.
const NAMES: [&str; 32] = [
    "DURE_RANK",
    "DURE_SIZE",
    "DURE_ROOT",
    "DURE_SECRET",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "OMPI_MCA_orte_hnp_uri",
    "OMPI_MCA_ess_base_jobid",
    "PMI_RANK",
    "PMI_SIZE",
    "MPI_LOCALRANKID",
    "MPI_LOCALNRANKS",
    "PMIX_RANK",
    "PMIX_NAMESPACE",
    "SLURM_PROCID",
    "SLURM_NTASKS",
    "SLURM_LOCALID",
    "SLURM_JOB_ID",
    "SLURM_JOBID",
    "SLURM_STEP_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_JOB_NODELIST",
    "SLURM_NODELIST",
];

fuzz_target!(|pairs: Vec<(u8, &str)>| {
    let pair = |(number, value): (u8, &str)| {
        (NAMES[usize::from(number) % NAMES.len()].to_owned(), value.to_owned())
    };
    let pairs: Vec<(String, String)> = pairs.into_iter().map(pair).collect();
    let Ok(config) = Config::from_pairs(pairs.iter().map(|(name, value)| (name, value))) else {
        return;
    };
    if let Ok(Some(launch)) = Launch::from_pairs(&config, pairs) {
        assert!(launch.rank < launch.size);
        assert!(launch.size == 1 || launch.root.is_some());
    }
});
