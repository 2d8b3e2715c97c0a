# SPDX-License-Identifier: Apache-2.0
"""Runtime of functions that are traced or launched; below the data model.

Nothing here is promised to users: these are the names that the other wings use.

* storage: the values of Variables, and reads and writes of many at one instant;
* frames: the values while a function is traced;
* signals: handlers deferred until the values of a step are stored;
* access and guard: the choice between frame and storage, and what is legal there;
* effects, facts and revisions: the dependencies of a trace;
* watches: what is looked at between runs;
* flat: many small arrays side by side in one, for the time of a trace;
* places: the shardings of Variables, which only a move changes;
* trackers: the interface of frameworks with traces of their own.
"""

from . import foreign_storage as foreign_storage
from . import storage as storage
from ._access import commit as commit
from ._access import create as create
from ._access import create_outside as create_outside
from ._access import exclusive as exclusive
from ._access import move as move
from ._access import read as read
from ._access import snapshot as snapshot
from ._access import write as write
from ._attributes import give_up as give_up
from ._attributes import rehearse as rehearse
from ._attributes import when_undone as when_undone
from ._cell import Cell as Cell
from ._constants import warn_of_constants as warn_of_constants
from ._effects import Effects as Effects
from ._effects import merge as merge
from ._equality import Frozen as Frozen
from ._equality import same as same
from ._facts import Facts as Facts
from ._flat import flat_of as flat_of
from ._flat import joined as joined
from ._flat import remembering as remembering
from ._flat import sliced as sliced
from ._frame import Frame as Frame
from ._frame import Outermost as Outermost
from ._frame import abandon as abandon
from ._frame import at_rest as at_rest
from ._frame import cache_of as cache_of
from ._frame import created_in_frames as created_in_frames
from ._frame import depend_on as depend_on
from ._frame import depend_on_counts as depend_on_counts
from ._frame import depend_on_facts as depend_on_facts
from ._frame import note_packs as note_packs
from ._frame import read_outside as read_outside
from ._frame import top as top
from ._frame import watch as watch
from ._guard import RULE_HELP as RULE_HELP
from ._guard import read_in_rules as read_in_rules
from ._overlay import Expired as Expired
from ._overlay import Overlay as Overlay
from ._owner import Owner as Owner
from ._owner import changes as changes
from ._owner import changing as changing
from ._owner import dict_of as dict_of
from ._owner import living_owners as living_owners
from ._owner import unrecorded as unrecorded
from ._places import InParts as InParts
from ._places import array_maker as array_maker
from ._places import divided_as as divided_as
from ._places import has_place as has_place
from ._places import is_at as is_at
from ._places import is_in_parts as is_in_parts
from ._places import on_device as on_device
from ._places import place_of as place_of
from ._places import put as put
from ._places import shardings as shardings
from ._places import undivided as undivided
from ._revisions import Revision as Revision
from ._signals import Deferred as Deferred
from ._trackers import TraceListener as TraceListener
from ._trackers import Tracker as Tracker
from ._trackers import activate as activate
from ._trackers import add_tracker as add_tracker
from ._trackers import depend as depend
from ._trackers import foreign_kinds as foreign_kinds
from ._trackers import inside_framework as inside_framework
from ._trackers import pending_trackers as pending_trackers
from ._watches import Watches as Watches
from ._watches import next_look as next_look
from .storage import baseline_refcount as baseline_refcount
from .storage import lock as lock
