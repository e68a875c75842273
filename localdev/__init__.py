"""The local AWS: what `chalice local` runs the service on. None of it is shipped."""

from localdev.command_line import deploying as deploying
from localdev.ending import end as end
from localdev.local_aws import LocalAws as LocalAws
