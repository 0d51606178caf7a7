//! What can go wrong in a life. Every seed switches on a random part of it and scales its rates, so
//! that some lives show two troubles often and nothing else (swarm testing: Groce and others, 2012).

use std::marker::PhantomData;

use crate::dice::Dice;

/// A kind of trouble.
pub trait Kind: Copy + 'static {
    /// All of them.
    const ALL: &'static [Self];

    /// Its name.
    fn name(self) -> &'static str;

    /// It strikes once in so many chances, before a seed scales that.
    fn every(self) -> u64;

    /// Its place in [`Kind::ALL`].
    fn index(self) -> usize;
}

macro_rules! troubles {
    ($(#[doc = $of:literal])+ $kind:ident {
        $($(#[doc = $doc:literal])+ $name:ident $every:literal),+ $(,)?
    }) => {
        $(#[doc = $of])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $kind { $($(#[doc = $doc])+ $name),+ }

        impl Kind for $kind {
            const ALL: &'static [Self] = &[$(Self::$name),+];

            fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            fn every(self) -> u64 {
                match self { $(Self::$name => $every),+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

troubles! {
    /// One kind of trouble of a node.
    Trouble {
        /// A rank dies by a signal.
        RankCrash 160,
        /// A rank exits with an error that another start may not meet.
        RankExit 240,
        /// The model can't be served: no other start can end differently.
        RankModel 1_500,
        /// A rank does nothing that it is asked, and says nothing.
        RankHang 300,
        /// A rank is stopped for a while, as by SIGSTOP.
        RankMute 250,
        /// A rank has work and finishes no step.
        RankStall 300,
        /// A start takes long.
        SlowStart 4,
        /// A rank could not be started.
        NotStarted 10,
        /// A rank takes long to unload.
        SlowUnload 4,
        /// A rank never unloads.
        NeverUnloads 6,
        /// SIGKILL does not take effect at once.
        SlowKill 3,
        /// An epoch answers garbage.
        Garbage 8,
        /// The gateway dies.
        GatewayCrash 150,
        /// The gateway ends for good.
        GatewayModel 2_000,
        /// The gateway answers nothing for a while.
        GatewayMute 250,
        /// The gateway says that it does not serve, for a while.
        GatewayNotReady 250,
        /// The gateway takes long to end.
        GatewaySlow 4,
        /// The supervisor is killed, anywhere in its turn.
        SupervisorKilled 60,
        /// Its memory is lost on the way.
        LedgerLost 6,
        /// When it is back, ranks of an epoch that it never heard of run.
        ForeignRanks 5,
        /// It is asked to end.
        Terminated 400,
        /// It can't save for a while.
        DiskFull 150,
        /// Something asked of the world is lost.
        ActionLost 20,
        /// An invariant stops to hold.
        Drift 60,
        /// A mend has no effect.
        MendVoid 3,
        /// A mend takes its time.
        MendLate 3,
        /// Something sets one invariant back again and again.
        Flap 250,
        /// Something about the host can't be read for a while.
        ReadingLost 120,
        /// A probe hangs until the supervisor is started again.
        ProbeHung 500,
        /// Nobody can tell whether the machine would boot unattended, or it would not.
        BootAttended 150,
        /// What a killed or crashed rank had wired stays so until the machine boots again.
        Strand 2,
        /// Another process takes much memory for a while.
        Hog 150,
        /// The memory can't be read for a while.
        MemoryLost 150,
        /// The machine panics, or loses its power.
        Panic 600,
        /// The machine does not reboot when it is asked to.
        RebootVoid 2,
        /// The clock on the wall jumps.
        WallJump 150,
        /// The machine sleeps: only time goes on.
        Sleep 250,
        /// A canary comes back with an error though all is well.
        CanaryFails 6,
        /// A canary never comes back.
        CanaryNever 8,
        /// The gateway is too busy for a canary.
        CanaryBusy 4,
        /// A crash leaves a signature.
        Signature 2,
        /// An operator gives an order.
        Order 120,
        /// An order that was obeyed is shown again.
        OrderAgain 10,
        /// The config asks for other ranks or another gateway.
        Replan 300,
        /// The config is refused for a while.
        ConfigRefused 300,
        /// A file of the model is missing for a while.
        FilesMissing 250,
        /// A prompt is computed for longer than every time-out, and lets nothing else through.
        LongPrefill 150,
        /// The gateway has no place for a canary for a while, whether its clients are served or not.
        GatewayFlooded 200,
        /// For a while every request is cancelled before it is answered, after the ranks worked on it.
        WorkCancelled 200,
        /// Each step takes longer than the one before, for a while.
        StepsSlow 250,
        /// The gateway refuses what a canary asks, until somebody mends that.
        CanaryRefused 400,
    }
}

troubles! {
    /// One kind of trouble between nodes, or of all of them.
    PairTrouble {
        /// One path between two nodes is cut for a while.
        PathCut 150,
        /// A node is cut off from all others.
        Partition 250,
        /// A node is not answered by another, which hears it well.
        OneWay 300,
        /// A path loses most of what goes over it.
        Loss 200,
        /// What goes over a path takes up to seconds, and comes in another order.
        Delay 200,
        /// What goes over a path comes twice.
        Repeat 200,
        /// An old report is shown, of another boot or of a reboot that is over.
        StaleReport 80,
        /// All machines lose their power.
        PowerCutAll 1_500,
        /// The config is changed on one node long before it is on the others.
        PlanUnequal 600,
        /// A node has another version of the software or the system for a while.
        VersionsDiffer 700,
        /// A node has other files of the model for a while.
        FilesDiffer 600,
        /// A node does not know another's key for a while.
        Unpaired 900,
        /// An operator orders a reboot.
        OrderReboot 400,
        /// Wired memory leaks while the ranks run, with nothing that crashed.
        Leak 250,
        /// A node dies right after it has saved how far it is with a reboot.
        DiesInReboot 6,
        /// A node is cut off right after it has saved how far it is with a reboot.
        CutInReboot 8,
        /// An operator holds or drains a node right after it has saved how far it is with a reboot.
        HeldInReboot 12,
        /// A node can't save right after it has saved how far it is with a reboot.
        FullInReboot 10,
        /// A node's memory is lost when it is back from a reboot that it was told to do.
        LostInReboot 10,
        /// Operators order a reboot of all on two nodes at once.
        OrderTwo 500,
        /// Rank 0's machine dies when an epoch is told that no other node has begun yet.
        LeaderDiesStarting 8,
    }
}

troubles! {
    /// One kind of trouble of the RDMA fabric between nodes.
    FabricTrouble {
        /// The system lists no RDMA device of a port for a while.
        DeviceMissing 150,
        /// A cable is out for a while.
        CableOut 150,
        /// A cable is in a port of another machine for a while.
        CableMoved 200,
        /// One end of a cable does not see the other for a while.
        SeenByOne 200,
        /// A node's ports can't be read for a while.
        PortsUnread 200,
        /// The next starts by the fabric fail.
        FabricFails 60,
    }
}

/// Which troubles a life has, and how often.
#[derive(Clone, Debug)]
pub struct Troubles<K> {
    every: Vec<u64>,
    of: PhantomData<K>,
}

impl<K: Kind> Troubles<K> {
    /// Those of a seed; each strikes so many times more seldom than in a life alone.
    pub fn roll(dice: &mut Dice, seldom: u64) -> Self {
        let on_in_8 = dice.pick(&[1, 2, 2, 3, 4, 8]);
        let scale = |every: u64, dice: &mut Dice| match dice.below(4) {
            0 => every.div_ceil(3),
            1 => every * 3,
            _ => every,
        };
        let rate = |trouble: &K| {
            if dice.below(8) < on_in_8 { scale(trouble.every(), dice).max(2) * seldom } else { 0 }
        };
        Self { every: K::ALL.iter().map(rate).collect(), of: PhantomData }
    }

    /// It strikes once in so many chances; 0 is never.
    pub fn every(&self, trouble: K) -> u64 {
        self.every.get(trouble.index()).copied().unwrap_or(0)
    }
}
