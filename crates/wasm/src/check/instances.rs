//! What comes into being with a component: instances of its modules and of the components within, and all of theirs.
//!
//! A component that is instantiated twice in one that is itself instantiated twice is there four times. A few hundred bytes of such
//! make more instances than a compiler can write down, so they are counted here, where nothing is made.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef,
    Encoding, Instance, Payload,
};

use super::{CheckError, at_most};

/// Most instances of modules and components, all in all.
const INSTANCES_MAX: u32 = 10_000;
/// Most memories of all instances together: each takes four gibibytes of a seat's address space.
const MEMORIES_MAX: u32 = 8;
/// Most pages of a memory of 32-bit addresses.
const PAGES_MAX: u64 = 1 << 16;

/// What one instance of a module or component makes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Made {
    instances: u32,
    memories: u32,
    /// Pages of its memories, at the start and at most.
    pub(super) pages: u64,
    pub(super) pages_max: u64,
}

impl Made {
    fn add(&mut self, other: Made) {
        self.instances = self.instances.saturating_add(other.instances);
        self.memories = self.memories.saturating_add(other.memories);
        self.pages = self.pages.saturating_add(other.pages);
        self.pages_max = self.pages_max.saturating_add(other.pages_max);
    }

    fn bounded(self) -> Result<Made, CheckError> {
        at_most("instances of modules and components", self.instances, INSTANCES_MAX)?;
        at_most("memories", self.memories, MEMORIES_MAX)?;
        Ok(self)
    }
}

/// A module or component that is being read, with what it can instantiate by index.
struct Scope {
    encoding: Encoding,
    made: Made,
    modules: Vec<Made>,
    components: Vec<Made>,
}

/// Counts along the sections of a component that the validator believes.
#[derive(Default)]
pub(super) struct Instances {
    open: Vec<Scope>,
    /// What the component makes, when its end is read.
    pub(super) made: Made,
}

impl Instances {
    /// How many modules and components are open: 1 is the component itself.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    pub(super) fn section(&mut self, payload: &Payload<'_>) -> Result<(), CheckError> {
        match payload {
            Payload::Version { encoding, .. } => {
                let (modules, components) = Default::default();
                self.open.push(Scope { encoding: *encoding, made: Made::default(), modules, components });
            }
            Payload::End(_) => self.close(),
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    self.alias(&alias.map_err(CheckError::invalid)?)?;
                }
            }
            _ => {
                if let Some(scope) = self.open.last_mut() {
                    scope.section(payload)?;
                }
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        let Some(scope) = self.open.pop() else { return };
        match (self.open.last_mut(), scope.encoding) {
            (Some(outer), Encoding::Module) => outer.modules.push(scope.made),
            (Some(outer), Encoding::Component) => outer.components.push(scope.made),
            (None, _) => self.made = scope.made,
        }
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) -> Result<(), CheckError> {
        match *alias {
            ComponentAlias::Outer { kind, count, index } => {
                let outer = (count as usize).checked_add(1).and_then(|up| self.open.len().checked_sub(up));
                let outer = outer.and_then(|at| self.open.get(at));
                let (modules, components) = match (outer, kind) {
                    (Some(outer), ComponentOuterAliasKind::CoreModule) => {
                        (found(&outer.modules, index), None)
                    }
                    (Some(outer), ComponentOuterAliasKind::Component) => {
                        (None, found(&outer.components, index))
                    }
                    _ => (None, None),
                };
                if let Some(scope) = self.open.last_mut() {
                    scope.modules.extend(modules);
                    scope.components.extend(components);
                }
                Ok(())
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => {
                Err(CheckError::Elsewhere { what: "module" })
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                Err(CheckError::Elsewhere { what: "component" })
            }
            _ => Ok(()),
        }
    }
}

fn found(space: &[Made], index: u32) -> Option<Made> {
    space.get(index as usize).copied()
}

impl Scope {
    fn section(&mut self, payload: &Payload<'_>) -> Result<(), CheckError> {
        match payload {
            Payload::MemorySection(memories) => {
                for memory in memories.clone() {
                    let memory = memory.map_err(CheckError::invalid)?;
                    let (pages, most) = (memory.initial, memory.maximum.unwrap_or(PAGES_MAX));
                    self.made.add(Made { instances: 0, memories: 1, pages, pages_max: most });
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    match instance.map_err(CheckError::invalid)? {
                        Instance::Instantiate { module_index, .. } => {
                            self.instantiate(found(&self.modules, module_index))?;
                        }
                        Instance::FromExports(_) => self.instantiate(None)?,
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    match instance.map_err(CheckError::invalid)? {
                        ComponentInstance::Instantiate { component_index, .. } => {
                            self.instantiate(found(&self.components, component_index))?;
                        }
                        ComponentInstance::FromExports(_) => self.instantiate(None)?,
                    }
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    match import.map_err(CheckError::invalid)?.ty {
                        ComponentTypeRef::Module(_) => return Err(CheckError::Elsewhere { what: "module" }),
                        ComponentTypeRef::Component(_) => {
                            return Err(CheckError::Elsewhere { what: "component" });
                        }
                        _ => {}
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    let export = export.map_err(CheckError::invalid)?;
                    // What is exported has an index more.
                    match export.kind {
                        ComponentExternalKind::Module => {
                            self.modules.extend(found(&self.modules, export.index))
                        }
                        ComponentExternalKind::Component => {
                            self.components.extend(found(&self.components, export.index));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn instantiate(&mut self, what: Option<Made>) -> Result<(), CheckError> {
        self.made.add(what.unwrap_or_default());
        self.made.instances = self.made.instances.saturating_add(1);
        self.made = self.made.bounded()?;
        Ok(())
    }
}
