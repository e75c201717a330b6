//! All hosts and literal paths of a router as one tree in one array: each node's children are a small hash table of their
//! own, and lie next to those of its neighbours. A lookup costs one probe for the host and one for each path segment that
//! the tree knows, whatever the number of routes. Not here: which nodes stand for what (`build`); conditions (`condition`).

use std::hash::{BuildHasher, Hasher};
use std::ops::ControlFlow;

use ahash::{HashMap, RandomState};

use super::build::Rank;
use crate::id::RouteId;

/// Position of a node in `Tree::nodes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(u32);

/// `Node::parent` of roots and of vacant slots; above every position (`limits::ROUTE_TABLE_BYTES_MAX`).
const NO_PARENT: u32 = u32::MAX;

/// A route that answers at a node, in one word: its id above a bit that says whether it has `Conditions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule(u32);

impl Rule {
    pub(super) fn new(route: RouteId, conditional: bool) -> Self {
        Self(route.0 << 1 | u32::from(conditional))
    }

    pub(super) fn route(self) -> RouteId {
        RouteId(self.0 >> 1)
    }

    pub(super) fn conditional(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The rules of a node.
#[derive(Clone, Copy, Debug)]
enum Rules {
    None,
    /// The common case, which needs no other memory.
    One(Rule),
    /// Position in `Tree::lists`.
    Many(u32),
}

/// A node or a vacant slot. Two of them fill a cache line.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Part of the label's hash, so that most labels that differ need not be read.
    tag: u8,
    /// Binary logarithm of the number of slots for children.
    slots_log2: u8,
    label_length: u16,
    /// Offset of the label in `Tree::text`.
    label_at: u32,
    parent: u32,
    /// First slot for children; 0, which is always a root: no children.
    children: u32,
    /// Rules for paths that end here.
    exact: Rules,
    /// Rules for paths that end here or continue. At the root of a host, also rules without a literal path.
    below: Rules,
}

const _: () = assert!(size_of::<Node>() == 32);

impl Node {
    const VACANT: Self = Self {
        tag: 0,
        slots_log2: 0,
        label_length: 0,
        label_at: 0,
        parent: NO_PARENT,
        children: 0,
        exact: Rules::None,
        below: Rules::None,
    };
}

/// The finished tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Box<[Node]>,
    /// All labels.
    text: Box<[u8]>,
    /// Lists of rules, most specific first.
    lists: Box<[Box<[Rule]>]>,
    /// Only labels of the configuration are stored, so requests cannot plant collisions; the seed is random all the same.
    hasher: RandomState,
}

impl Tree {
    /// The child with this label.
    #[inline]
    pub(super) fn child(&self, parent: NodeId, label: &[u8]) -> Option<NodeId> {
        let Node { children, slots_log2, .. } = *self.node(parent);
        if children == 0 {
            return None;
        }
        let hash = hash(&self.hasher, label);
        for at in probe(hash, children, slots_log2) {
            let node = self.node(at);
            if node.parent == NO_PARENT {
                return None;
            }
            if node.tag == tag(hash) && self.label(node) == label {
                return Some(at);
            }
        }
        None
    }

    /// Calls `visit` with the rules under `root` whose literal path matches, most specific first, until it breaks.
    #[inline]
    pub(super) fn walk<B>(
        &self,
        root: NodeId,
        path: &[u8],
        visit: &mut impl FnMut(Rule) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let (mut at, whole) = self.descend(root, path);
        if whole {
            self.for_each_rule(self.node(at).exact, visit)?;
        }
        loop {
            let node = self.node(at);
            self.for_each_rule(node.below, visit)?;
            if at == root {
                return ControlFlow::Continue(());
            }
            at = NodeId(node.parent);
        }
    }

    /// The deepest node on the way of `path`, and whether the path ends there.
    fn descend(&self, root: NodeId, path: &[u8]) -> (NodeId, bool) {
        let mut at = root;
        let mut rest = path.strip_prefix(b"/");
        while let Some(segments) = rest {
            let end = segments.iter().position(|&byte| byte == b'/').unwrap_or(segments.len());
            let (segment, after) = segments.split_at(end);
            match self.child(at, segment) {
                Some(child) => at = child,
                None => return (at, false),
            }
            rest = after.strip_prefix(b"/");
        }
        (at, at != root)
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn label(&self, node: &Node) -> &[u8] {
        &self.text[node.label_at as usize..][..usize::from(node.label_length)]
    }

    #[inline]
    fn for_each_rule<B>(&self, rules: Rules, visit: &mut impl FnMut(Rule) -> ControlFlow<B>) -> ControlFlow<B> {
        match rules {
            Rules::None => ControlFlow::Continue(()),
            Rules::One(rule) => visit(rule),
            Rules::Many(list) => self.lists[list as usize].iter().copied().try_for_each(visit),
        }
    }
}

#[inline]
fn hash(hasher: &RandomState, label: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(label);
    hasher.finish()
}

#[inline]
fn tag(hash: u64) -> u8 {
    (hash >> 56) as u8
}

/// The slots, among 2^`slots_log2` from `first` on, where a label with this hash may be: linear probing.
#[inline]
fn probe(hash: u64, first: u32, slots_log2: u8) -> impl Iterator<Item = NodeId> {
    let mask = (1 << slots_log2) - 1;
    (0..=mask).map(move |step| NodeId(first + ((hash as u32).wrapping_add(step) & mask)))
}

/// Binary logarithm of the number of slots for `children`. Small tables may be full; others are at most two thirds full.
fn slots_log2(children: usize) -> u8 {
    let room = if children <= 4 { children } else { children + children / 2 };
    room.next_power_of_two().ilog2() as u8
}

/// A tree to which routes are added.
#[derive(Debug, Default)]
pub(super) struct Draft {
    nodes: Vec<DraftNode>,
    roots: Vec<DraftId>,
    edges: HashMap<(DraftId, Box<[u8]>), DraftId>,
    rules: usize,
    text_bytes: usize,
}

#[derive(Debug)]
struct DraftNode {
    label: Box<[u8]>,
    children: Vec<DraftId>,
    exact: Vec<(Rank, Rule)>,
    below: Vec<(Rank, Rule)>,
}

/// Index of a node in a [`Draft`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct DraftId(u32);

impl Draft {
    pub(super) fn root(&mut self) -> DraftId {
        let id = self.push(b"");
        self.roots.push(id);
        id
    }

    /// The child with this label, created if it is missing.
    pub(super) fn child(&mut self, parent: DraftId, label: &[u8]) -> DraftId {
        let edge = (parent, Box::from(label));
        if let Some(&id) = self.edges.get(&edge) {
            return id;
        }
        let id = self.push(label);
        self.nodes[parent.0 as usize].children.push(id);
        self.edges.insert(edge, id);
        id
    }

    /// The node of a path, created if it is missing. `/` is a child of the root with an empty label.
    pub(super) fn path(&mut self, root: DraftId, path: &str) -> DraftId {
        path.split('/').skip(1).fold(root, |at, segment| self.child(at, segment.as_bytes()))
    }

    /// Adds a rule for paths that end at the node (`ends`), or for paths that end there or continue.
    pub(super) fn add(&mut self, at: DraftId, ends: bool, rank: Rank, rule: Rule) {
        let node = &mut self.nodes[at.0 as usize];
        let list = if ends { &mut node.exact } else { &mut node.below };
        list.push((rank, rule));
        self.rules += 1;
    }

    /// Upper bound of the size of the finished tree, bytes.
    pub(super) fn bytes(&self) -> usize {
        3 * self.nodes.len() * size_of::<Node>() + self.rules * size_of::<Rule>() + self.text_bytes
    }

    fn push(&mut self, label: &[u8]) -> DraftId {
        self.nodes.push(DraftNode { label: label.into(), children: Vec::new(), exact: Vec::new(), below: Vec::new() });
        self.text_bytes += label.len();
        DraftId(self.nodes.len() as u32 - 1)
    }

    /// The finished tree, and a function from the draft's roots to the tree's.
    pub(super) fn freeze(mut self) -> (Tree, impl Fn(DraftId) -> NodeId) {
        let mut tree = TreeArrays {
            nodes: vec![Node::VACANT; self.roots.len()],
            text: Vec::with_capacity(self.text_bytes),
            lists: Vec::new(),
            hasher: RandomState::new(),
        };
        let roots = std::mem::take(&mut self.roots);
        let mut open: Vec<(DraftId, NodeId)> = roots.iter().copied().zip((0..).map(NodeId)).collect();
        for &(id, at) in &open {
            tree.fill(at, NO_PARENT, 0, &mut self.nodes[id.0 as usize]);
        }
        // Depth first, labels too, so that the memory of one lookup is close together.
        while let Some((id, at)) = open.pop() {
            let draft = &mut self.nodes[id.0 as usize];
            let children = std::mem::take(&mut draft.children);
            let (first, slots_log2) = (tree.nodes.len() as u32, slots_log2(children.len()));
            let node = &mut tree.nodes[at.0 as usize];
            node.label_at = tree.text.len() as u32;
            tree.text.extend_from_slice(&draft.label);
            if children.is_empty() {
                continue;
            }
            (node.children, node.slots_log2) = (first, slots_log2);
            tree.nodes.resize(tree.nodes.len() + (1 << slots_log2), Node::VACANT);
            for id in children {
                let draft = &mut self.nodes[id.0 as usize];
                let hash = hash(&tree.hasher, &draft.label);
                let free = probe(hash, first, slots_log2).find(|slot| tree.nodes[slot.0 as usize].parent == NO_PARENT);
                let slot = free.unwrap_or(NodeId(first)); // There are at least as many slots as children.
                tree.fill(slot, at.0, tag(hash), draft);
                open.push((id, slot));
            }
        }
        let TreeArrays { nodes, text, lists, hasher } = tree;
        let tree = Tree { nodes: nodes.into(), text: text.into(), lists: lists.into(), hasher };
        (tree, move |root| NodeId(roots.iter().take_while(|id| **id != root).count() as u32))
    }
}

/// The arrays of a [`Tree`] while it is built.
struct TreeArrays {
    nodes: Vec<Node>,
    text: Vec<u8>,
    lists: Vec<Box<[Rule]>>,
    hasher: RandomState,
}

impl TreeArrays {
    /// Writes a node without its label's text and its children.
    fn fill(&mut self, at: NodeId, parent: u32, tag: u8, draft: &mut DraftNode) {
        self.nodes[at.0 as usize] = Node {
            tag,
            label_length: draft.label.len() as u16,
            parent,
            exact: self.append(&mut draft.exact),
            below: self.append(&mut draft.below),
            ..Node::VACANT
        };
    }

    fn append(&mut self, list: &mut [(Rank, Rule)]) -> Rules {
        list.sort_by_key(|(rank, _)| *rank);
        match list {
            [] => Rules::None,
            [(_, rule)] => Rules::One(*rule),
            _ => {
                self.lists.push(list.iter().map(|(_, rule)| *rule).collect());
                Rules::Many(self.lists.len() as u32 - 1)
            }
        }
    }
}
