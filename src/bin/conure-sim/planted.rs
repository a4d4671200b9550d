//! Bugs on purpose: each is planted alone, and has to be found within the seeds of a normal run.

#[cfg(feature = "planted-bugs")]
pub use built::{plant_by_name, run};

/// This build has no bugs to plant.
#[cfg(not(feature = "planted-bugs"))]
pub fn run(_: &crate::cli::PlantedArgs) -> std::io::Result<bool> {
    Err(std::io::Error::other(
        "this build has no planted bugs; the one that has: \
         cargo run --release --features planted-bugs --bin conure-sim -- planted",
    ))
}

#[cfg(not(feature = "planted-bugs"))]
pub fn plant_by_name(_: &str) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
mod built {
    use std::io;
    use std::time::Instant;

    use conuredb::plants::Plant;

    use crate::cli::PlantedArgs;
    use crate::pool::{Pool, Work};
    use crate::repeat::PATIENCE;

    /// Looks for each bug; true when all are found.
    pub fn run(args: &PlantedArgs) -> io::Result<bool> {
        let asked = |plant: &Plant| args.only.as_ref().is_none_or(|name| plant.name() == name);
        let plants: Vec<Plant> = Plant::ALL.into_iter().filter(asked).collect();
        let mut found = 0;
        for plant in &plants {
            let begun = Instant::now();
            let seen = look_for(*plant, args)?;
            let seconds = begun.elapsed().as_secs();
            match seen {
                Some((seed, how)) => {
                    found += 1;
                    let how: String = how.chars().take(160).collect();
                    println!("found  {} by seed {seed} after {seconds} s: {how}", plant.name());
                }
                None => println!("MISSED {} in {} seeds, {seconds} s", plant.name(), args.seeds),
            }
        }
        println!("{found} of {} planted bugs were found", plants.len());
        if args.json {
            println!("{{\"planted\":{},\"found\":{found}}}", plants.len());
        }
        Ok(found == plants.len())
    }

    /// The first seed that finds a bug, and what it says.
    fn look_for(plant: Plant, args: &PlantedArgs) -> io::Result<Option<(u64, String)>> {
        let work =
            Work { from: 0, end: args.seeds, jobs: args.jobs.count(), plant: Some(plant.name()) };
        let mut pool = Pool::start(work)?;
        while let Some(next) = pool.next(Instant::now() + PATIENCE)? {
            if let Ok(report) = next
                && report.failed()
            {
                return Ok(Some((report.seed, report.summary())));
            }
        }
        Ok(None)
    }

    /// Plants a bug in this thread; false when there is none of this name.
    pub fn plant_by_name(name: &str) -> bool {
        let plant = Plant::ALL.into_iter().find(|plant| plant.name() == name);
        conuredb::plants::plant(plant);
        plant.is_some()
    }
}
