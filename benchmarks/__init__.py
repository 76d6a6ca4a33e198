"""The commands compare, train and evaluate; statistics and reports."""

import logging

# Other libraries import it, and on a CPU it tells then what it lacks, and later of every cast.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
