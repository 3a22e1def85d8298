//! What happens in one simulated stretch of time, as data: drawn from a number, cut down by `shrink`, kept by name in `found`.

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// One stretch of time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    /// What the core draws its random numbers from.
    pub(crate) seed: u64,
    /// The members at its beginning.
    pub(crate) members: Vec<Plan>,
    /// What happens, in order.
    pub(crate) steps: Vec<Step>,
}

/// How a member is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) workers: u32,
    pub(crate) queue: u32,
    pub(crate) threads: u32,
    /// Whether its token can do what only some tokens can.
    pub(crate) rich: bool,
}

/// What happens next. Members and the like are meant by number, modulo how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many callers ask for the same.
    Ask(u8, Call),
    /// One of the callers that wait goes away.
    Leave(u8),
    /// So many milliseconds pass.
    Pass(u32),
    /// So many milliseconds pass in which the gateway gets no processor.
    Starve(u32),
    /// From now on the workers of a member start so.
    Begin(u8, Start),
    /// From now on a member is so.
    Ail(u8, Health),
    /// One of the workers of a member dies.
    Die(u8, u8),
    Drain(u8),
    Resume(u8),
    Revive(u8),
    /// The members whose bits are set are rolled.
    Roll(u8),
    Configure(u8, Plan),
    Add(Plan),
    Remove(u8),
    /// The gateway stops.
    Stop,
}

/// What a caller asks for, and what comes of each attempt of it unless the member ails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) what: What,
    /// With which key, or to which object.
    pub(crate) key: u8,
    /// On whose behalf.
    pub(crate) principal: u8,
    /// How many milliseconds it waits.
    pub(crate) patience: u32,
    pub(crate) ends: [End; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The use of a key, such as a signature.
    Use,
    /// A use that only some tokens know.
    RareUse,
    /// A key that leaves its token wrapped.
    Create,
    /// A key that stays in its token.
    CreateResident,
    /// The end of a key that stays in its token.
    Destroy,
}

/// What comes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    /// As any member would.
    Refused,
    FailsBefore,
    FailsAfter,
    /// The worker dies before it has done it.
    DiesBefore,
    /// The worker dies after it has done it: only the reply is lost.
    DiesAfter,
    Hangs,
    /// Takes so long that it looks as if it hung.
    Stalls,
    Busy,
    Unsupported,
    /// The token needs a person.
    Lasting,
    /// A wrong signature.
    Lies,
}

/// How a worker starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Well,
    FailsPassing,
    /// The login is refused.
    FailsLasting,
    /// The token is not there.
    Absent,
    Hangs,
    Dies,
    DomainHangs,
    DomainFails,
    OtherDomain,
    OtherAnswer,
}

/// How a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    /// Everything takes so many times as long.
    Slow(u8),
    /// Every attempt fails.
    Faulty,
    /// Every second attempt fails.
    Flaps,
    /// Every attempt hangs.
    Hangs,
    /// Probes are not answered.
    Mute,
    /// Probes are answered wrong.
    ProbesLie,
    ProbesFail,
    ProbesFailForGood,
}

impl Schedule {
    /// The schedule of a number: the same at all times.
    pub(crate) fn draw(number: u64) -> Self {
        let mut draw = Draw(StdRng::seed_from_u64(number));
        let members = (0..draw.one_of(&[1, 2, 2, 3, 3, 3, 4, 5]))
            .map(|_| draw.plan())
            .collect();
        let mood = Mood {
            faults: draw.one_of(&[0.0, 0.1, 0.3, 0.8]),
            troubles: draw.one_of(&[0.0, 0.05, 0.2]),
            operators: draw.one_of(&[0.0, 0.05, 0.25]),
            haste: draw.one_of(&[1, 10, 100, 1000]),
        };
        let steps = (0..draw.up_to(44) + 4).map(|_| draw.step(&mood)).collect();
        Self {
            seed: number,
            members,
            steps,
        }
    }
}

/// What a schedule is rich in.
struct Mood {
    faults: f64,
    troubles: f64,
    operators: f64,
    haste: u32,
}

struct Draw(StdRng);

impl Draw {
    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.random_range(0..choices.len())]
    }

    fn up_to(&mut self, most: u32) -> u32 {
        self.0.random_range(0..=most)
    }

    fn small(&mut self) -> u8 {
        self.0.random_range(0..12)
    }

    fn plan(&mut self) -> Plan {
        Plan {
            workers: self.one_of(&[1, 1, 2, 3]),
            queue: self.one_of(&[1, 2, 4, 8, 20]),
            threads: self.one_of(&[1, 2, 3]),
            rich: self.one_of(&[true, true, false]),
        }
    }

    fn step(&mut self, mood: &Mood) -> Step {
        let luck = self.0.random::<f64>();
        if luck < mood.operators {
            return self.operator_step();
        }
        if luck < mood.operators + mood.troubles {
            return self.trouble();
        }
        match self.up_to(99) {
            0..55 => Step::Ask(self.one_of(&[1, 1, 1, 2, 3, 6, 12]), self.call(mood)),
            55..60 => Step::Leave(self.small()),
            60..62 => Step::Starve(self.up_to(4_000)),
            62..98 => Step::Pass(self.up_to(10) * mood.haste),
            _ => Step::Pass(self.up_to(40_000)),
        }
    }

    fn call(&mut self, mood: &Mood) -> Call {
        use What::{Create, CreateResident, Destroy, RareUse, Use};
        let poison = self.end(mood);
        let poisoned = self.up_to(9) == 0;
        Call {
            what: self.one_of(&[Use, Use, Use, RareUse, Create, CreateResident, Destroy]),
            key: self.up_to(2) as u8,
            principal: self.up_to(4) as u8,
            patience: self.one_of(&[0, 20, 300, 300, 2_000, 2_000, 10_000, 20_000]),
            ends: std::array::from_fn(|_| if poisoned { poison } else { self.end(mood) }),
        }
    }

    fn end(&mut self, mood: &Mood) -> End {
        use End::{
            Busy, DiesAfter, DiesBefore, Done, FailsAfter, FailsBefore, Hangs, Lasting, Lies, Refused, Stalls,
            Unsupported,
        };
        if self.0.random::<f64>() >= mood.faults {
            return Done;
        }
        let faults = [
            Refused,
            FailsBefore,
            FailsBefore,
            FailsBefore,
            FailsAfter,
            DiesBefore,
            DiesAfter,
            Hangs,
            Stalls,
            Busy,
            Busy,
            Unsupported,
            Lasting,
            Lies,
        ];
        self.one_of(&faults)
    }

    fn trouble(&mut self) -> Step {
        use Health::{Faulty, Flaps, Hangs, Mute, ProbesFail, ProbesFailForGood, ProbesLie, Slow, Well};
        let member = self.small();
        match self.up_to(2) {
            0 => Step::Die(member, self.small()),
            1 => {
                let healths = [
                    Well,
                    Well,
                    Slow(5),
                    Slow(100),
                    Faulty,
                    Faulty,
                    Flaps,
                    Hangs,
                    Mute,
                    ProbesLie,
                    ProbesFail,
                    ProbesFailForGood,
                ];
                Step::Ail(member, self.one_of(&healths))
            }
            _ => {
                let starts = [
                    Start::Well,
                    Start::Well,
                    Start::FailsPassing,
                    Start::FailsLasting,
                    Start::Absent,
                    Start::Hangs,
                    Start::Dies,
                    Start::DomainHangs,
                    Start::DomainFails,
                    Start::OtherDomain,
                    Start::OtherAnswer,
                ];
                Step::Begin(member, self.one_of(&starts))
            }
        }
    }

    fn operator_step(&mut self) -> Step {
        let member = self.small();
        match self.up_to(30) {
            0..5 => Step::Drain(member),
            5..11 => Step::Resume(member),
            11..14 => Step::Revive(member),
            14..19 => Step::Roll(self.0.random_range(1..32)),
            19..25 => Step::Configure(member, self.plan()),
            25..27 => Step::Add(self.plan()),
            27..30 => Step::Remove(member),
            _ => Step::Stop,
        }
    }
}
