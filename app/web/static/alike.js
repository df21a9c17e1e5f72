// How alike two answers are.
export function alike(one, other) {
  let [product, own, its, most] = [0, 0, 0, 0];
  for (let at = 0; at < one.length; at += 1) {
    product += one[at] * other[at];
    own += one[at] * one[at];
    its += other[at] * other[at];
    most = Math.max(most, Math.abs(one[at] - other[at]));
  }
  return { cosine: own && its ? Math.min(1, product / Math.sqrt(own * its)) : null, most };
}

// Whether an output holds scores of classes, by the rules of `app/engines/classes.py`: rows of unit length are embeddings.
export function holdsClasses({ datatype, shape, values }, names) {
  if (!datatype.startsWith("FP") || shape.length !== 2 || shape[1] < 2) return false;
  if (names?.length === shape[1]) return true;
  const row = values.subarray(0, shape[1]);
  const length = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
  return Math.abs(length - 1) >= 1e-3 || areProbabilities(row);
}

function areProbabilities(row) {
  return row.every((value) => value >= 0) && Math.abs(row.reduce((sum, value) => sum + value, 0) - 1) < 1e-3;
}

// The best classes of one row: {index, score, share}; shares are what the scores say, by softmax unless they are shares.
export function best(row, count) {
  const most = row.reduce((one, other) => Math.max(one, other), -Infinity);
  const parts = areProbabilities(row) ? row : row.map((value) => Math.exp(value - most));
  const sum = parts.reduce((one, other) => one + other, 0);
  return Array.from(row, (score, index) => ({ index, score, share: parts[index] / sum }))
    .sort((one, other) => other.score - one.score || one.index - other.index)
    .slice(0, count);
}

export function median(values) {
  const known = values.filter((value) => value !== null).sort((one, other) => one - other);
  if (!known.length) return null;
  const middle = known.length >> 1;
  return known.length % 2 ? known[middle] : (known[middle - 1] + known[middle]) / 2;
}
