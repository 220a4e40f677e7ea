"""The table of phases, in the order in which they are run."""

from tests.attack.phase import Phase
from tests.attack.phases.disk_faults import disk_faults, lacks_mounts
from tests.attack.phases.floods import floods
from tests.attack.phases.killed_calls import killed_calls, lacks_strace
from tests.attack.phases.many_tenants import many_tenants
from tests.attack.phases.multipart_abuse import multipart_abuse
from tests.attack.phases.raw_http import raw_http
from tests.attack.phases.redis_contents import TENANT as DAMAGED
from tests.attack.phases.redis_contents import redis_contents
from tests.attack.phases.refused_forks import refused_forks
from tests.attack.phases.slow_clients import slow_clients
from tests.attack.phases.wrong_clocks import lacks_faketime, wrong_clocks

PHASES = (
    Phase("raw HTTP", raw_http),
    Phase("slow clients", slow_clients),
    Phase("floods", floods),
    Phase("multipart abuse", multipart_abuse),
    Phase("many tenants", many_tenants),
    Phase("Redis contents", redis_contents, damages=DAMAGED),
    # With a full disk Redis ends by itself: it may not go on without writing what it acknowledges.
    Phase("disk faults", disk_faults, kills=frozenset({"redis"}), lacks=lacks_mounts),
    Phase("refused forks", refused_forks, kills=frozenset({"worker", "api"})),
    Phase("killed calls", killed_calls, kills=frozenset({"worker", "api", "redis"}), lacks=lacks_strace),
    Phase("wrong clocks", wrong_clocks, kills=frozenset({"worker"}), lacks=lacks_faketime, with_clocks=True),
)
BY_NAME = {phase.name: phase for phase in PHASES}
