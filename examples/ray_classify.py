"""Classify a folder or bucket of images on a Ray cluster; killed, the same command resumes.

    pip install 'ray[data]>=2.60'
    python examples/ray_classify.py s3://bucket/photos/ s3://bucket/labels/ --model vit-base --actors 8

Rows of images and errors go to Parquet files, one row an image. ``OUTPUT.checkpoint`` has what is done.
"""

import argparse

import ray
from ray.data.checkpoint import CheckpointConfig

from vit_pipeline.batch import Classifier

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("images", help="a folder or bucket, read with its subfolders")
parser.add_argument("output", help="a folder or bucket for the Parquet files")
parser.add_argument("--model", default="vit-base")
parser.add_argument("--actors", type=int, default=2, help="processes with a model each")
parser.add_argument(
    "--cpus", type=float, default=1, help="of each actor; reading and checkpoints need 2 more"
)
parser.add_argument("--local-cpus", type=int, help="without a cluster: CPUs that Ray may count with")
parser.add_argument("--gpus", type=float, default=0, help="of each actor")
options = parser.parse_args()

if options.local_cpus:
    ray.init(num_cpus=options.local_cpus)
context = ray.data.DataContext.get_current()
context.checkpoint_config = CheckpointConfig(
    id_column="path", checkpoint_path=f"{options.output.rstrip('/')}.checkpoint"
)
images = ray.data.read_binary_files(options.images, include_paths=True)
rows = images.map_batches(
    Classifier,
    fn_constructor_kwargs={"model": options.model},
    batch_size=64,
    compute=ray.data.ActorPoolStrategy(size=options.actors),
    num_cpus=options.cpus,
    num_gpus=options.gpus,
)
rows.write_parquet(options.output)
