//! Faults: what each does, to whom, and what ends it.

use super::Cluster;
use crate::network::{Side, WireId};
use crate::options::{Fault, Span};
use crate::redis::Left;
use crate::reference::ROOMS;
use crate::sentinel::Target;
use crate::timeline::Happening;
use crate::trace;
use fanfare_turn::Stop;

impl Cluster<'_> {
    pub(super) fn plan_fault(&mut self, fault: Fault) {
        let Some((_, mean)) = self.options.faults.iter().find(|(of, _)| *of == fault) else { return };
        let rng = self.chaos.get_mut(&fault).expect("a fault that happens has its own draws");
        let delay = rng.u64(1..=mean * 2);
        self.around.timeline.after(delay, Happening::Fault(fault));
    }

    pub(super) fn draw(&mut self, fault: Fault, below: usize) -> usize {
        self.chaos.get_mut(&fault).expect("a fault that happens has its own draws").usize(0..below)
    }

    pub(super) fn pick<T: Copy>(&mut self, fault: Fault, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.draw(fault, of.len())])
    }

    /// Plans the end of what a fault does.
    pub(super) fn plan_relief(&mut self, fault: Fault, target: usize) -> u64 {
        self.plan_later_relief(fault, target, 0)
    }

    /// The same, and so many microseconds later.
    pub(super) fn plan_later_relief(&mut self, fault: Fault, target: usize, later: u64) -> u64 {
        let span: Span = self.options.relief;
        let delay = later + span.draw(self.chaos.get_mut(&fault).expect("a fault that happens has its own draws"));
        self.around.timeline.after(delay, Happening::Relief(fault, target as u64));
        self.around.timeline.now + delay
    }

    fn client_wires(&self) -> Vec<WireId> {
        self.clients.iter().filter_map(|client| client.wire()).collect()
    }

    fn links(&self) -> Vec<WireId> {
        self.instances.iter().flatten().flat_map(|instance| instance.links()).collect()
    }

    pub(super) fn strike(&mut self, fault: Fault) -> Result<(), String> {
        let masters = self.group.masters();
        if let Some(master) = self.pick(fault, &masters) {
            self.group.look_at_master(master);
        }
        let struck = match fault {
            Fault::ClientReset | Fault::ClientBlackhole => {
                let wires = self.client_wires();
                self.pick(fault, &wires).map(|wire| self.harm(wire, fault == Fault::ClientBlackhole))
            }
            Fault::LinkReset | Fault::LinkBlackhole => {
                let wires = self.links();
                self.pick(fault, &wires).map(|wire| self.harm(wire, fault == Fault::LinkBlackhole))
            }
            Fault::NetworkStall => {
                let wires = [self.client_wires(), self.links()].concat();
                self.pick(fault, &wires).map(|wire| {
                    let until = self.plan_relief(fault, 0);
                    self.around.network.stall(wire, until, &mut self.around.timeline);
                })
            }
            Fault::RedisKill | Fault::RedisJunk | Fault::RedisDeafens => {
                let wires = if fault == Fault::RedisDeafens {
                    self.group.master().subscribers()
                } else {
                    self.group.master().wires()
                };
                self.pick(fault, &wires).map(|wire| match fault {
                    Fault::RedisKill => self.group.master_mut().kill(wire, &mut self.around),
                    Fault::RedisDeafens => self.group.master_mut().deafen(wire),
                    _ => self.group.master_mut().say_junk(wire, &mut self.around),
                })
            }
            Fault::ClientStall | Fault::ClientHalfClose | Fault::ClientMisbehaves | Fault::ClientMute => {
                let number = self.draw(fault, self.clients.len());
                self.strike_client(fault, number).then_some(())
            }
            Fault::InstancePause
            | Fault::InstanceClockJump
            | Fault::InstanceCrash
            | Fault::InstanceShutdown
            | Fault::InstanceLapses
            | Fault::StaleEvents => {
                let place = self.draw(fault, self.instances.len());
                self.strike_instance(fault, place)
            }
            Fault::Removal => self.remove(fault),
            Fault::SentinelDown | Fault::SentinelPause | Fault::SentinelStale => self.strike_sentinel(fault),
            Fault::SentinelFailover | Fault::MasterLost | Fault::SplitBrain => self.fail_over(fault),
            fault if fault.is_of_clusters() => self.strike_cluster(fault)?,
            _ => self.strike_redis(fault),
        };
        if struck.is_some() {
            *self.outcome.faults.entry(fault).or_default() += 1;
            trace!(self.around.trace, self.around.timeline, "FAULT {fault:?}");
        }
        self.group.look(&mut self.around)
    }

    pub(super) fn harm(&mut self, wire: WireId, silently: bool) {
        trace!(self.around.trace, self.around.timeline, "wire {wire} breaks, silently: {silently}");
        match silently {
            true => self.around.network.silence(wire),
            false => self.around.network.reset(wire, &mut self.around.timeline),
        }
    }

    /// Says whether that was possible.
    fn strike_client(&mut self, fault: Fault, number: usize) -> bool {
        if self.clients[number].wire().is_none() {
            return false;
        }
        match fault {
            Fault::ClientStall => {
                let until = self.plan_relief(fault, number);
                self.clients[number].stalled_until = until;
            }
            Fault::ClientMute => {
                let until = self.plan_relief(fault, number);
                self.clients[number].mute_until = until;
            }
            Fault::ClientHalfClose => return self.clients[number].half_close(&mut self.around),
            _ => return self.clients[number].misbehave(&mut self.around),
        }
        true
    }

    fn strike_instance(&mut self, fault: Fault, place: usize) -> Option<()> {
        self.instances[place].as_ref()?;
        match fault {
            Fault::InstanceClockJump => {
                let ahead = self.draw(fault, 60_000_000) as u64;
                let instance = self.instances[place].as_mut()?;
                instance.jump(ahead);
                instance.wake(&mut self.around);
            }
            Fault::StaleEvents => {
                return self.instances[place].as_mut()?.report_stale(&mut self.around).then_some(());
            }
            Fault::InstancePause => {
                let until = self.plan_relief(fault, place);
                self.instances[place].as_mut()?.paused_until = until;
            }
            Fault::InstanceShutdown => {
                self.instances[place].as_ref().filter(|instance| !instance.is_stopping)?;
                let drains = self.drains();
                let instance = self.instances[place].as_mut()?;
                if drains {
                    // It is replaced when all have gone.
                    instance.stop(Stop::InTime, &mut self.around);
                } else {
                    instance.stop(Stop::AtOnce, &mut self.around);
                    self.plan_relief(fault, place);
                }
            }
            Fault::InstanceLapses => return self.lapse(),
            _ => {
                self.end_instance(place);
                self.plan_relief(fault, place);
            }
        }
        Some(())
    }

    /// One of the newest messages of a room, or now and then all of them.
    fn remove(&mut self, fault: Fault) -> Option<()> {
        let lives = &self.around.reference.lives;
        let rooms: Vec<usize> = (0..self.options.rooms).filter(|room| lives.keeps(*room)).collect();
        let room = self.pick(fault, &rooms)?;
        let last = self.around.reference.lives.last(room)?;
        let (back, what) = (self.draw(fault, 12) as u64, self.draw(fault, 10));
        let offset = (what > 0).then(|| last.offset.saturating_sub(back));
        let text = serde_json::json!({"type": "REMOVE", "room": ROOMS[room], "offset": offset}).to_string();
        let place = self.draw(fault, self.instances.len());
        let instance = self.instances[place].as_mut()?;
        trace!(self.around.trace, self.around.timeline, "the backend asks instance {place}: {text}");
        instance.command(text, &mut self.around);
        Some(())
    }

    fn strike_redis(&mut self, fault: Fault) -> Option<()> {
        match fault {
            Fault::RedisScriptFlush => {
                self.group.master_mut().forget_scripts();
                return Some(());
            }
            // Nobody could tell any more that an instance is dead whose words are still on their way, and arrive.
            Fault::RedisDataLoss if self.draw(fault, 2) == 0 && !self.options.has(Fault::InstanceLapses) => {
                self.group.master_mut().delete_all(&mut self.around);
                return Some(());
            }
            Fault::RedisRestart | Fault::RedisFailover | Fault::RedisDataLoss => {
                self.group.master_mut().begin_anew(match fault {
                    Fault::RedisFailover => Left::Replica,
                    Fault::RedisDataLoss => Left::Nothing,
                    _ => Left::Data,
                });
                self.group.master_mut().up = false;
                let wires = self.group.master().wires();
                self.group.master_mut().kill_all(&mut self.around);
                for wire in wires {
                    self.around.network.reset(wire, &mut self.around.timeline);
                }
            }
            Fault::RedisPause => self.group.master_mut().paused = true,
            Fault::RedisLoading => self.group.master_mut().loading = true,
            Fault::RedisRefusesPublish => self.group.master_mut().refuses_publish = true,
            Fault::RedisBusy => self.group.master_mut().busy = true,
            Fault::RedisDemoted => self.group.master_mut().demote(true),
            _ => {
                let room = self.draw(fault, self.options.rooms);
                self.group.master_mut().refuses_subscribe = Some(self.group.master_mut().channel(ROOMS[room]));
            }
        }
        self.plan_relief(fault, self.group.number());
        Some(())
    }

    pub(super) fn relieve(&mut self, fault: Fault, target: usize) -> Result<(), String> {
        trace!(self.around.trace, self.around.timeline, "END of {fault:?}");
        let of_clients = matches!(fault, Fault::ClientStall | Fault::ClientMute | Fault::NetworkStall);
        let of_instances = matches!(fault, Fault::InstancePause | Fault::InstanceCrash | Fault::InstanceShutdown);
        let woken = Target::Server(if of_clients || of_instances { self.group.number() } else { target });
        match fault {
            Fault::RedisRestart | Fault::RedisFailover | Fault::RedisDataLoss => {
                self.group.servers[target].up = true;
                self.group.look_for_replicas();
            }
            Fault::MasterLost | Fault::SplitBrain => self.end_split(fault, target),
            Fault::SentinelDown | Fault::SentinelPause | Fault::SentinelStale => {
                self.relieve_sentinel(fault, target);
                return Ok(());
            }
            Fault::InstanceLapses => {
                self.end_lapse(target);
                return Ok(());
            }
            fault if fault.is_of_clusters() => return self.relieve_cluster(fault, target),
            Fault::RedisPause => self.group.servers[target].paused = false,
            Fault::RedisLoading => self.group.servers[target].loading = false,
            Fault::RedisRefusesPublish => self.group.servers[target].refuses_publish = false,
            Fault::RedisBusy => self.group.servers[target].busy = false,
            Fault::RedisDemoted if target == self.group.number() => self.group.master_mut().demote(false),
            Fault::RedisRefusesSubscribe => self.group.servers[target].refuses_subscribe = None,
            Fault::InstanceCrash if self.instances[target].is_none() => self.start_instance(target),
            Fault::InstanceShutdown if self.instances[target].as_ref().is_some_and(|of| of.is_stopping) => {
                self.end_instance(target);
                self.start_instance(target);
            }
            Fault::InstancePause => {
                if let Some(instance) = &mut self.instances[target] {
                    instance.wake(&mut self.around);
                }
            }
            Fault::ClientStall => {
                if let Some(wire) = self.clients[target].wire() {
                    self.around.timeline.after(1, Happening::Readable(wire, Side::Near));
                }
            }
            _ => {}
        }
        self.group.wake(woken, &mut self.around.timeline);
        self.group.look(&mut self.around)
    }
}
