//! Small systems of linear equations.

/// Solves `matrix * x = right` for a symmetric, positive definite matrix by Cholesky's method; nothing for others.
pub(super) fn solve<const N: usize>(matrix: &[[f64; N]; N], right: &[f64; N]) -> Option<[f64; N]> {
    let mut lower = [[0.0; N]; N];
    for row in 0..N {
        for column in 0..=row {
            let known: f64 = (0..column).map(|k| lower[row][k] * lower[column][k]).sum();
            let left = matrix[row][column] - known;
            lower[row][column] = if row == column {
                if !(left > 0.0 && left.is_finite()) {
                    return None;
                }
                left.sqrt()
            } else {
                left / lower[column][column]
            };
        }
    }
    let mut x = *right;
    for row in 0..N {
        let known: f64 = (0..row).map(|k| lower[row][k] * x[k]).sum();
        x[row] = (x[row] - known) / lower[row][row];
    }
    for row in (0..N).rev() {
        let known: f64 = (row + 1..N).map(|k| lower[k][row] * x[k]).sum();
        x[row] = (x[row] - known) / lower[row][row];
    }
    Some(x)
}

/// Normal equations of a weighted least-squares fit: what samples add up to.
#[derive(Clone, Debug)]
pub(super) struct Normal<const N: usize> {
    pub(super) matrix: [[f64; N]; N],
    pub(super) right: [f64; N],
}

impl<const N: usize> Normal<N> {
    pub(super) fn new() -> Self {
        Self { matrix: [[0.0; N]; N], right: [0.0; N] }
    }

    /// Adds the equation `row * x = value` with a weight.
    pub(super) fn add(&mut self, row: &[f64; N], value: f64, weight: f64) {
        for i in 0..N {
            self.right[i] += weight * row[i] * value;
            for j in 0..N {
                self.matrix[i][j] += weight * row[i] * row[j];
            }
        }
    }

    pub(super) fn solve(&self) -> Option<[f64; N]> {
        solve(&self.matrix, &self.right)
    }
}

/// The weight of a residual in a fit that is square near 0 and linear beyond `scale` (pseudo-Huber): its inverse grows
/// with the residual, so that no sample pulls harder than one at the scale.
pub(super) fn pull(residual: f64, scale: f64) -> f64 {
    (residual / scale).hypot(1.0).recip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved() {
        let matrix = [[4.0, 2.0, 0.6], [2.0, 5.0, 1.0], [0.6, 1.0, 3.0]];
        let x = [1.0, -2.0, 3.0];
        let right = matrix.map(|row| row.iter().zip(&x).map(|(a, b)| a * b).sum());
        let found = solve(&matrix, &right).unwrap();
        assert!(found.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        assert_eq!(solve(&[[1.0, 2.0], [2.0, 1.0]], &[1.0, 1.0]), None);
        assert_eq!(solve(&[[0.0]], &[1.0]), None);
        assert_eq!(solve(&[[f64::NAN]], &[1.0]), None);
    }

    #[test]
    fn equations_add_up_to_their_least_squares() {
        let mut normal = Normal::<2>::new();
        for (at, value) in [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)] {
            normal.add(&[1.0, at], value, 1.0);
        }
        let [start, slope] = normal.solve().unwrap();
        assert!((start - 1.0).abs() < 1e-12 && (slope - 2.0).abs() < 1e-12);
    }

    #[test]
    fn residuals_pull_less_and_less_harder() {
        assert_eq!(pull(0.0, 0.5), 1.0);
        assert!((pull(5.0, 0.5) * 5.0 - 0.5).abs() < 0.01);
    }
}
