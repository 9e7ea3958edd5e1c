"""Train sklearn-iris from scikit-learn's own data set and put it into the tenant's bucket.

Seeded: the same image makes the same model. Runs in the image that serves it, so that versions cannot differ.
"""

import io
import os

import boto3
import joblib
from botocore.client import Config
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

SEED = 7
LEAST = 0.9

data = load_iris()
known, held, labels, answers = train_test_split(
    data.data, data.target, test_size=0.3, random_state=SEED, stratify=data.target
)
model = LogisticRegression(max_iter=500, random_state=SEED).fit(known, labels)
accuracy = model.score(held, answers)
if accuracy < LEAST:
    raise SystemExit(f"accuracy {accuracy:.3f} on held-out flowers is below {LEAST}; nothing was stored")

artefact = io.BytesIO()
joblib.dump(model, artefact)
store = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], config=Config(s3={"addressing_style": "path"}))
store.put_object(Bucket=os.environ["BUCKET"], Key=f"{os.environ['FOLDER']}/model.joblib", Body=artefact.getvalue())
print(f"accuracy {accuracy:.3f} on {len(answers)} held-out flowers; {len(artefact.getvalue())} bytes stored")
